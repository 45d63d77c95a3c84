"""Make an edit: concepts → embeddings → map → figures. `erase` removes concepts, `edit_prompt` changes a meaning."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from editkit.concepts.templates import EXPANSIONS, TIME_AUGMENTATIONS, check_concepts, fill
from editkit.edits.edit import EVERYWHERE, Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.figures import Figures, measure
from editkit.edits.method import Method, Options
from editkit.edits.problem import Problem, Rows, Solution
from editkit.erasure.rows import (
    aligned_rows,
    average_of,
    concept_rows,
    nearest_word,
    preserved_rows,
    vocabulary_rows,
)
from editkit.erasure.words import check_known, words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, Stream


def erase(
    model: EditableModel,
    concepts: Sequence[str],
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
) -> Edit:
    """Erase `concepts` from `model`.

    Args:
        concepts: words or phrases.
        guides: what each becomes: a text, `average` (the mean of the vocabulary) or `nearest` (its closest word). One
            serves all concepts. Default: `average` with a protected vocabulary, else `" "`.
        preserve: prompts that must stay as they are.
        options: how to solve it; default: `Options()`.
        vocabulary: words to protect. Default: the words of the model's profile.
        checked: refuse an edit that blows up. False is for measuring what a method breaks.

    Raises:
        EditkitError: an impossible request, or an edit that would break the checkpoint.
    """
    options = options or Options()
    check_concepts(concepts)
    check_known(model, concepts)
    guides = _one_each(concepts, guides or [options.guide])
    _check_preserve(concepts, preserve)
    clock = Clock()
    with clock("words"):
        wanted = options.is_protected or {*guides} & {"average", "nearest"} or model.profile.measures_damage
        words = words_to_protect(model, concepts, guides, vocabulary) if wanted else []
        texts = [_guide_texts(model, *pair, words) for pair in zip(concepts, guides, strict=True)]
    with clock("embeddings"):
        templates = model.profile.templates if options.is_protected else EXPANSIONS[options.expand]
        rows = [
            [
                concept_rows(stream.encoders, concept, text, templates, options.tokens)
                for concept, text in zip(concepts, texts, strict=True)
            ]
            for stream in model.streams
        ]
    named = [texts[i] if guide == "nearest" else guide for i, guide in enumerate(guides)]
    record = {"concepts": list(concepts), "guides": named, "preserve": list(preserve)}
    return _make(model, rows, preserve, words, options, clock, record, checked)


def edit_prompt(
    model: EditableModel,
    source: str,
    destination: str,
    preserve: Sequence[str] = (),
    options: Method | None = None,
    augment: bool = False,
    vocabulary: Sequence[str] | None = None,
) -> Edit:
    """Make `source` mean `destination`: "a red rose" → "a blue rose" (TIME). `augment` adds three prompt templates."""
    options = options or Options("time")
    check_concepts([source])
    check_known(model, [source, destination])
    _check_preserve([source], preserve)
    clock = Clock()
    with clock("words"):
        wanted = options.is_protected or model.profile.measures_damage
        words = words_to_protect(model, [source], [destination], vocabulary) if wanted else []
    with clock("embeddings"):
        templates = TIME_AUGMENTATIONS if augment else ("{}",)
        pairs = [(fill(one, source), fill(one, destination)) for one in templates]
        rows = [[aligned_rows(stream.encoders, *pair) for pair in pairs] for stream in model.streams]
    record = {"concepts": [source], "guides": [destination], "preserve": list(preserve)}
    return _make(model, rows, preserve, words, options, clock, record)


class Clock:
    """Seconds per phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 4)


def _make(
    model: EditableModel,
    rows: Sequence[Sequence[Rows]],
    preserve: Sequence[str],
    words: Sequence[str],
    options: Method,
    clock: Clock,
    record: dict[str, Any],
    checked: bool = True,
) -> Edit:
    """Solve every stream of the model; `rows` has an entry for each."""
    maps: dict[str, EditMap] = {}
    figures: dict[str, dict[str, Any]] = {}
    for stream, mine in zip(model.streams, rows, strict=True):
        solution, found = _solve_stream(model, stream, mine, preserve, words, options, clock, checked)
        keys = {name: model.key(stream) if name == EVERYWHERE else name for name in solution.maps}
        maps |= {keys[name]: stream.whole(one) for name, one in solution.maps.items()}
        figures[stream.rule.stream] = found.as_dict()
    first, *others = figures
    return Edit(
        maps,
        {
            "method": options.name,
            **record,
            "options": options.record,
            "reads_projections": options.reads_projections,
            "model": model.source.name,
            "family": model.source.family.name,
            "profile": model.profile.record,
            "text_encoder_sha256": model.text_encoder_sha256,
            "projections_sha256": model.projections_sha256,
            "figures": figures[first] | {name: figures[name] for name in others} | {"seconds": clock.seconds},
            "versions": versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _solve_stream(
    model: EditableModel,
    stream: Stream,
    rows: Sequence[Rows],
    preserve: Sequence[str],
    words: Sequence[str],
    options: Method,
    clock: Clock,
    checked: bool,
) -> tuple[Solution, Figures]:
    with clock("vocabulary"):
        # Unprotected edits too are told what they damage, where measuring that is cheap.
        known = options.is_protected or model.profile.measures_damage
        vocabulary = vocabulary_rows(stream.encoders, words, model.profile.vocabulary_templates) if known else None
        kept = preserved_rows(stream.encoders, preserve, options.tokens)
    with clock("gram matrix"):
        gram = stream.gram
    problem = Problem(tuple(rows), kept, stream.inputs, gram, vocabulary)
    with clock("solve"):
        solution = options.solve(problem)
    with clock("figures"):
        return solution, measure(solution, problem, options.is_protected, checked)


def _guide_texts(model: EditableModel, concept: str, guide: str, words: Sequence[str]) -> str | list[str]:
    if guide not in ("average", "nearest"):
        if guide.strip().lower() == concept.strip().lower():
            raise EditkitError(f"concept {concept!r} is its own guide: the edit would do nothing; give another --guide")
        return guide
    if not words:
        raise EditkitError(
            f"guide {guide!r} needs a vocabulary, but no word is left in it; give --vocabulary or a text"
        )
    return average_of(words) if guide == "average" else nearest_word(model.encoder, concept, words, model.gram)


def _one_each(concepts: Sequence[str], guides: Sequence[str]) -> list[str]:
    if len(guides) == 1:
        return list(guides) * len(concepts)
    if len(guides) != len(concepts):
        raise EditkitError(
            f"{len(concepts)} concepts but {len(guides)} guides; give one guide, or one for each concept"
        )
    return list(guides)


def _check_preserve(concepts: Sequence[str], preserve: Sequence[str]) -> None:
    erased = {concept.strip().lower() for concept in concepts}
    for prompt in preserve:
        if prompt.strip().lower() in erased:
            raise EditkitError(f"{prompt!r} is to be both erased and preserved; drop one of the two")


def versions() -> dict[str, str]:
    found = {}
    for package in ("editkit", "torch", "transformers", "diffusers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
