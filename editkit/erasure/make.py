"""From a model and rows to an edit: solve every stream, measure what came out, and write down how."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import VOCABULARY_GUIDES
from editkit.edits.edit import EVERYWHERE, Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.figures import Figures, measure
from editkit.edits.method import Method
from editkit.edits.problem import Problem, Rows, Solution
from editkit.edits.protect import ProtectedWords
from editkit.erasure.captions import Captions
from editkit.erasure.rows import Encoders, empty_rows, preserved_rows, spread
from editkit.erasure.styles import protected_rows
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, Stream
from editkit.versions import versions

LOOKED_AT = 32
LOOKED_AT_SLOW = 8
"""Common words that an unprotected edit is judged by, where looking at all of them is not cheap."""


class Clock:
    """Seconds per phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 4)


@dataclass(frozen=True)
class Request:
    """What an edit is to do, apart from the rows that it is solved over.

    Attributes:
        concepts, guides: what is changed, and what each becomes, as the record names it.
        preserve: prompts that must stay as they are.
        words: the vocabulary to protect, or to look at.
        checked: refuse an edit that blows up; else warn of it.
        synonyms: concept → words that are erased with it.
        found: concept → prompts that brought it back, and are erased with it.
        found_weight: of all of a concept's together, against its own rows.
        captions: texts that are held where they are, like a vocabulary.
        preset: name and hash of the preset that it was asked for by.
        of, phrase: what the concepts are erased from alone, and how they are said of it; empty: everywhere.
        without: prompts that stay in all rows, of what the concepts are erased from.
        held: what makes the protected rows of a stream from its encoders and `words`; None: what suits `concepts`.
        pictures: concept → what is told of the pictures that it is erased by.
    """

    model: EditableModel
    options: Method
    concepts: Sequence[str]
    guides: Sequence[str]
    preserve: Sequence[str]
    words: Sequence[str]
    checked: bool = True
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)
    found_weight: float = 1.0
    captions: Captions | None = None
    preset: Mapping[str, str] | None = None
    of: Sequence[str] = ()
    phrase: str = ""
    held: Callable[[Encoders, Sequence[str]], ProtectedWords] | None = None
    without: Sequence[str] = ()
    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def protected(self, encoders: Encoders, words: Sequence[str]) -> ProtectedWords:
        """Rows of what stays."""
        if self.held is not None:
            return self.held(encoders, words)
        return protected_rows(self.model.profile, encoders, words, self.concepts)

    def kept(self, encoders: Encoders) -> Tensor | None:
        """Rows of prompts that stay, `(m, d)`, or None. A null space holds `preserve` exactly, for which those of
        `without` are too many."""
        without = () if self.options.protect == "null" else self.without
        parts = [preserved_rows(encoders, self.preserve, self.options.tokens), preserved_rows(encoders, without, "all")]
        known = [rows for rows in parts if rows is not None]
        return torch.cat(known) if known else None


def words_of(
    model: EditableModel,
    options: Method,
    concepts: Sequence[str],
    guides: Sequence[str],
    vocabulary: Sequence[str] | None,
    also: Sequence[str] = (),
    near: Tensor | None = None,
) -> list[str]:
    """The words to protect; for an unprotected edit those that say whether it blows up. `also` are not protected;
    `near` is the `nearness` of all words, where it is known already."""
    if vocabulary is None and not (options.is_protected or model.profile.measures_damage or _named(guides)):
        vocabulary = spread(model.own_words(), _looked_at(model))
    return words_to_protect(model, concepts, [*guides, *also], vocabulary, near)


def make_edit(
    request: Request,
    rows: Sequence[Sequence[Rows]],
    found: Sequence[Sequence[Rows | None]] | None = None,
    kept: Sequence[Tensor | None] | None = None,
) -> Edit:
    """Solve every stream of the model; `rows` has an entry for each, which has one for each concept; `found` has the
    rows of found prompts likewise, `kept` rows `(m, d)` to preserve beside those of the preserved prompts.

    Raises:
        EditkitError: an impossible request, or an edit that would break the checkpoint.
    """
    check_preserve(request.concepts, request.preserve)
    model = request.model
    maps: dict[str, EditMap] = {}
    figures: dict[str, dict[str, Any]] = {}
    edited = edited_streams(request)
    read = [
        _held(request, stream, more) if stream.inputs else None
        for stream, more in zip(edited, kept or [None] * len(edited), strict=True)
    ]
    model.free_encoders()  # what is solved needs their rows alone, and the memory
    for stream, held, mine, more in zip(edited, read, rows, found or [()] * len(edited), strict=True):
        if held is None:  # of two streams one may have no values, such as the pooled one of SDXL
            continue
        solution, measured = _solve_stream(request, stream, held, mine, more)
        keys = {name: model.key(stream) if name == EVERYWHERE else name for name in solution.maps}
        maps |= {keys[name]: stream.whole(edit) for name, edit in solution.maps.items()}
        figures[stream.rule.stream] = measured.as_dict()
    if not figures:
        raise no_values(model)
    return Edit(maps, record_of(request, figures))


def edited_streams(request: Request) -> list[Stream]:
    """The model's streams with the projections that are edited: all, or those to values, of which one may have none."""
    streams = request.model.streams
    return list(streams) if request.options.layers == "all" else [stream.values for stream in streams]


def no_values(model: EditableModel) -> EditkitError:
    """Of a model none of whose streams is left to edit."""
    return EditkitError(
        f"--layers v: {model.source.family.title} has no projections to values that read the prompt alone; "
        "use --layers all"
    )


def record_of(request: Request, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What an edit says of itself; `figures` are those of every stream."""
    model, options = request.model, request.options
    first, *others = figures
    return {
        "method": options.name,
        "concepts": list(request.concepts),
        "guides": list(request.guides),
        "preserve": list(request.preserve),
        **({"from": list(request.of), "phrase": request.phrase} if request.of else {}),
        **({"synonyms": _listed(request.synonyms)} if any(request.synonyms.values()) else {}),
        **({} if request.preset is None else {"preset": dict(request.preset)}),
        **_found(request),
        **({"pictures": {name: dict(told) for name, told in request.pictures.items()}} if request.pictures else {}),
        **({} if request.captions is None else {"prior": request.captions.record(model.streams[0].encoders)}),
        "options": options.record,
        "checked": request.checked,
        "reads_projections": options.reads_projections,
        "model": model.source.name,
        "family": model.source.family.name,
        "profile": model.profile.record,
        "text_encoder_sha256": model.text_encoder_sha256,
        "projections_sha256": model.projections_sha256,
        "figures": {**figures[first], **{name: figures[name] for name in others}, "seconds": request.clock.seconds},
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_preserve(concepts: Sequence[str], preserve: Sequence[str]) -> None:
    """Refuse a prompt that is to be both erased and preserved."""
    erased = {concept.strip().lower() for concept in concepts}
    for prompt in preserve:
        if prompt.strip().lower() in erased:
            raise EditkitError(f"{prompt!r} is to be both erased and preserved; drop one of the two")


def _found(request: Request) -> dict[str, Any]:
    if not any(request.found.values()):
        return {}
    return {"found": _listed(request.found), "found_weight": request.found_weight}


def _listed(words: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {concept: list(some) for concept, some in words.items() if some}


@dataclass(frozen=True)
class _Held:
    """The rows of what stays, as `Problem` has them."""

    vocabulary: ProtectedWords
    preserve: Tensor | None
    empty: Tensor | None
    captions: Tensor | None


def _held(request: Request, stream: Stream, also: Tensor | None = None) -> _Held:
    """All that is read of a stream's encoders beside the rows to erase; `also` are more rows that stay."""
    model, options, clock = request.model, request.options, request.clock
    with clock("vocabulary"):
        words = looked_at_by(model, options, request.words)
        vocabulary = request.protected(stream.encoders, words)
        parts = [rows for rows in (request.kept(stream.encoders), also) if rows is not None]
        kept = torch.cat(parts) if parts else None
    empty = empty_rows(stream.encoders) if options.reads_empty else None
    moment = None
    if request.captions is not None:
        with clock("captions"):
            moment, _ = request.captions.moment(stream.encoders)
    return _Held(vocabulary, kept, empty, moment)


def _solve_stream(
    request: Request, stream: Stream, held: _Held, rows: Sequence[Rows], found: Sequence[Rows | None]
) -> tuple[Solution, Figures]:
    options, clock = request.options, request.clock
    problem = problem_of(request, stream, rows, held)
    if found:
        problem = problem.with_found(found, request.found_weight)
    with clock("solve"):
        solution = options.solve(problem)
    with clock("figures"):
        return solution, measure(solution, problem, options.holds_each_word, request.checked)


def problem_of(request: Request, stream: Stream, rows: Sequence[Rows], held: _Held | None = None) -> Problem:
    """What is solved for one stream: the rows of each concept, and what must stay, unless that was read before."""
    held = held or _held(request, stream)
    with request.clock("gram matrix"):
        gram = stream.gram
    return Problem(
        tuple(rows), held.preserve, stream.inputs, gram, held.vocabulary, empty=held.empty, captions=held.captions
    )


def looked_at_by(model: EditableModel, options: Method, words: Sequence[str]) -> Sequence[str]:
    """Those of the vocabulary that an edit is held or judged by."""
    if options.is_protected or model.profile.measures_damage:
        return words
    return spread(words, _looked_at(model))


def _looked_at(model: EditableModel) -> int:
    return LOOKED_AT_SLOW if model.encoder.slow else LOOKED_AT


def _named(guides: Sequence[str]) -> bool:
    """Whether a guide is made from the vocabulary."""
    return bool({*guides} & {*VOCABULARY_GUIDES})
