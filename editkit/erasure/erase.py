"""`editkit erase`: remove concepts. Concepts → embeddings → map → figures."""

from __future__ import annotations

from collections.abc import Sequence

from editkit.concepts.templates import EXPANSIONS, check_concepts
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.erasure.make import Clock, Request, check_preserve, make_edit, words_of
from editkit.erasure.rows import average_of, concept_rows, nearest_word
from editkit.erasure.words import check_known
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, ModelLike, open_model


def erase(
    model: ModelLike,
    concepts: Sequence[str],
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
) -> Edit:
    """Erase `concepts` from `model`.

    Args:
        model: as `open_model` takes it, or what it returns.
        concepts: words or phrases.
        guides: what each becomes: a text, `average` (the mean of the vocabulary) or `nearest` (its closest word). One
            serves all concepts. Default: `average` with a protected vocabulary, else `" "`.
        preserve: prompts that must stay as they are.
        options: how to solve it, and with what protection; default: `Options()`.
        vocabulary: words to protect. Default: the words of the model's profile.
        checked: refuse an edit that blows up; else warn of it.

    Raises:
        EditkitError: an impossible request, or an edit that would break the checkpoint.

    >>> made = erase("emoji", ["church"])
    >>> made.record["method"], made.map.width, made.record["figures"]["erasure_residual"] < 0.2
    ('rece', 512, True)
    """
    model, options = open_model(model), options or Options()
    check_concepts(concepts)
    check_known(model, concepts)
    guides = _one_each(concepts, guides or [options.guide])
    check_preserve(concepts, preserve)
    clock = Clock()
    with clock("words"):
        words = words_of(model, options, concepts, guides, vocabulary)
        texts = [_guide_texts(model, *pair, words) for pair in zip(concepts, guides, strict=True)]
    named = [texts[i] if guide == "nearest" else guide for i, guide in enumerate(guides)]
    request = Request(model, options, concepts, [str(guide) for guide in named], preserve, words, checked, clock)
    with clock("embeddings"):
        templates = model.profile.templates if options.is_protected else EXPANSIONS[options.expand]
        rows = [
            [
                concept_rows(stream.encoders, concept, text, templates, options.tokens)
                for concept, text in zip(concepts, texts, strict=True)
            ]
            for stream in model.streams
        ]
    return make_edit(request, rows)


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
