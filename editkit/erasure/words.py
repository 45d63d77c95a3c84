"""Which words of a model's vocabulary an edit protects."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from editkit.concepts.vocabulary import FEW, common_words, without_synonyms
from editkit.erasure.rows import likeness
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


def words_to_protect(
    model: EditableModel, concepts: Sequence[str], guides: Sequence[str], vocabulary: Sequence[str] | None = None
) -> list[str]:
    """`vocabulary` (default: the bundled model's own words, else common English ones) less the erased concepts, what
    is known or measured to mean the same, and the guides."""
    also = [guide for guide in guides if guide.strip()]
    if model.source.is_bundled:
        also += _taught_as_same(concepts)
    words = list(vocabulary) if vocabulary is not None else _own_words(model)
    measured = likeness(model.encoder, words, concepts, model.gram) if len(words) >= FEW else None
    return without_synonyms(words, concepts, also, measured)


def check_known(model: EditableModel, concepts: Sequence[str]) -> None:
    """Refuse a concept that the bundled model cannot draw. Other models are trusted to know every word.

    Raises:
        EditkitError: naming the words it never learned, and near ones that it did.
    """
    if not model.source.is_bundled:
        return
    from editkit.emoji.captions import every_caption_word
    from editkit.emoji.catalogue import catalogue

    learnt = set(every_caption_word(catalogue()))
    for concept in concepts:
        unknown = [word for word in concept.lower().replace("-", " ").split() if word not in learnt]
        if unknown:
            near = get_close_matches(concept.lower(), catalogue().words(), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`editkit models` lists what it knows;"
            raise EditkitError(
                f"concept {concept!r}: model {model.source.name} never learned the word {unknown[0]!r}; "
                f"{hint} for real checkpoints give --model DIR"
            )


def _own_words(model: EditableModel) -> list[str]:
    if model.source.is_bundled:
        from editkit.emoji.catalogue import catalogue

        return list(catalogue().words())
    # Where every word is run with its padding or with instructions before it, time allows a tenth of them
    return list(common_words())[:: 10 if model.encoder.slow else 1]


def _taught_as_same(concepts: Sequence[str]) -> list[str]:
    """Synonyms of the concepts, and the members where a concept is a hypernym."""
    from editkit.emoji.catalogue import catalogue

    known = catalogue()
    same = []
    for concept in concepts:
        same += known.hypernyms.get(concept, ())
        for name, synonyms in known.synonyms.items():
            if concept == name or concept in synonyms or name in same:
                same += [name, *synonyms]
    return same
