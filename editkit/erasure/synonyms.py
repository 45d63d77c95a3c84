"""Which words are erased with a concept: what is known, measured or said to mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from editkit.concepts.profile import Profile
from editkit.concepts.vocabulary import SYNONYM_LIKENESS, SameWords
from editkit.erasure.near import closeness
from editkit.erasure.words import nearness
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel

SYNONYMS = ("erase", "leave")
MoreWords = Sequence[str] | Mapping[str, Sequence[str]]
"""Words that a user says mean a concept: a list, or concept → words."""


def how_of(how: str | None, protected: bool) -> str:
    """What is done with words of the same meaning; where nothing is said, they are erased by a protected edit alone.

    Raises:
        EditkitError: it is none of `SYNONYMS`.
    """
    how = how or ("erase" if protected else "leave")
    if how not in SYNONYMS:
        raise EditkitError(f"--synonyms: must be one of {', '.join(SYNONYMS)}, but got {how!r}")
    return how


def words_in(more: MoreWords) -> list[str]:
    """All of them."""
    return [word for words in more.values() for word in words] if isinstance(more, Mapping) else list(more)


def synonyms_of(
    model: EditableModel,
    concepts: Sequence[str],
    more: MoreWords = (),
    vocabulary: Sequence[str] | None = None,
    measured: bool = True,
    near: Tensor | None = None,
) -> dict[str, list[str]]:
    """Concept → the words that mean it, each with the concept that it is nearest to.

    Args:
        model: its profile knows some.
        concepts: what is erased.
        more: said to mean one of them, or, as concept → words, to mean that one.
        vocabulary: among which words of the same meaning are looked for; default: those of the model's profile.
        measured: look for known synonyms, plurals, and words whose `likeness` to a concept is above
            `SYNONYM_LIKENESS`; else `more` alone.
        near: `nearness` of the vocabulary, where it is known already.

    Raises:
        EditkitError: `more` has words of something that is not erased.

    >>> from editkit.model.editable import open_model
    >>> synonyms_of(open_model("emoji"), ["axe"])
    {'axe': ['hatchet']}
    """
    same: dict[str, list[str]] = {concept: [] for concept in concepts}
    if measured:
        words = list(vocabulary) if vocabulary is not None else model.own_words()
        known = model.profile.synonyms
        for concept in concepts:
            groups = [{name, *others} for name, others in known.items() if concept in (name, *others)]
            same[concept] += sorted(word for group in groups for word in group)
        spelled = SameWords(concepts)
        for word in words:
            for concept in spelled.of(word):
                same[concept].append(word)
        near = nearness(model, concepts, words) if near is None else near
        if near is not None:
            best = near.max(dim=1)
            for n in (best.values > SYNONYM_LIKENESS).nonzero()[:, 0].tolist():
                concept = concepts[int(best.indices[n])]
                if not _known_to_differ(model.profile, words[n], concept):
                    same[concept].append(words[n])
    if isinstance(more, Mapping):
        for concept, said in more.items():
            if concept not in same:
                raise EditkitError(f"synonyms of {concept!r}: it is not erased; expected one of {', '.join(concepts)}")
            same[concept] += said
    else:
        for word in more:
            same[concepts[closeness_of(model, word, concepts)]].append(word)
    erased = {concept.lower() for concept in concepts}
    return {
        concept: list(dict.fromkeys(word for word in words if word.lower() not in erased))
        for concept, words in same.items()
    }


def _known_to_differ(profile: Profile, word: str, concept: str) -> bool:
    """Whether the profile has another meaning for each: "cat" and "automobile" are near each other in a small encoder
    that knows "car"."""
    mine, theirs = (profile.meanings.get(text.lower()) for text in (word, concept))
    return mine is not None and theirs is not None and not {*mine} & {*theirs}


def closeness_of(model: EditableModel, word: str, concepts: Sequence[str]) -> int:
    """Which of `concepts` `word` is nearest to."""
    if len(concepts) == 1:
        return 0
    return int(closeness(model.encoder, [word, *concepts], concepts, model.gram)[0].argmax())
