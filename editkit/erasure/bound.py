"""`erase --from`: what is said of one thing alone. X of Y goes; X of anything else, and Y without X, stay.

A phrase with both, "a noto church", moves to that of Y alone, "a church". A row can move where it has read both words:
where the encoder is causal, those from the later word on. A row that sentences with X but without Y have as well, or
with Y but without X, is the same number for the edit, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from editkit.concepts.profile import Profile
from editkit.concepts.templates import fill
from editkit.edits.edit import Edit
from editkit.edits.method import Method
from editkit.edits.problem import Rows
from editkit.edits.protect import ProtectedWords
from editkit.embeddings.encoder import TextEncoder
from editkit.erasure.captions import Captions
from editkit.erasure.edit import aligned_rows
from editkit.erasure.make import Request, check_preserve, make_edit
from editkit.erasure.near import closeness
from editkit.erasure.rows import Encoders, spread, vocabulary_rows
from editkit.erasure.styles import other_styles, sentences_without
from editkit.erasure.synonyms import MoreWords, synonyms_of
from editkit.erasure.words import check_known, words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel

METHOD = "uce"
"""What is taken where the user names no method: RECE derives rows that bring X back wherever it is said, and erases
those, too."""
STYLED, FIRST = "{y} in the style of {x}", "{x} {y}"
"""How X is said of Y: of a style, and of anything else."""
SAME = 1e-4
"""Share of its length by which a row may differ and still be the same: float32 rounds it."""
OTHERS = 8
"""Words in the place of X: so many of the nearest, and as many from all over the vocabulary."""


@dataclass(frozen=True)
class Bound:
    """One X that goes where it is said of one of several Y.

    Attributes:
        concept: X.
        of: Y, and what is erased along with it.
        phrase: how X is said of Y, with `{x}` and `{y}`.
        templates: sentences about Y, none of which names X.
        others: words in the place of X that stay.
    """

    concept: str
    of: tuple[str, ...]
    phrase: str
    templates: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def make(
        cls, profile: Profile, concept: str, of: Sequence[str], phrase: str | None, others: Sequence[str]
    ) -> Bound:
        """With the sentences of the profile.

        Raises:
            EditkitError: the phrase lacks `{x}` or `{y}`.
        """
        phrase = phrase or (STYLED if profile.is_style(concept) else FIRST)
        if phrase.count("{x}") != 1 or phrase.count("{y}") != 1:
            raise EditkitError(f"--phrase {phrase!r}: expected '{{x}}' for --concept and '{{y}}' for --from, once each")
        plain = _plain(profile, profile.templates, concept)
        return cls(concept, tuple(of), phrase, tuple(plain), tuple(others))

    def about(self, word: str, templates: Sequence[str]) -> list[str]:
        """`templates` that say `word` of what stands in their `{}`: "a {}" becomes "a noto {}"."""
        said = self.phrase.replace("{x}", word).replace("{y}", "{}")
        return [fill(template, said) for template in templates]

    def rows(self, encoders: Encoders) -> Rows:
        """Rows of every phrase with both, and those of Y alone that they become."""
        parts = [
            self._rows(encoder, word, *pair)
            for encoder in encoders
            for word in self.of
            for pair in zip(self.about(self.concept, self.templates), self.templates, strict=True)
        ]
        return Rows.joined(parts)

    def _rows(self, encoder: TextEncoder, word: str, both: str, alone: str) -> Rows:
        whole = aligned_rows([encoder], fill(both, word), fill(alone, word))
        without_x = [fill(each, word) for other in self.others for each in self.about(other, [alone])]
        without_y = [fill(both, other) for other in self.others]
        contrasts = encoder.encode([fill(alone, word), *without_x, *without_y])
        start = max(_shared(whole.source, rows) for rows in contrasts)
        return Rows(whole.source[start:], whole.target[start:])

    def without(self) -> list[str]:
        """Prompts of Y without X, alone and with each of the others: held like `preserve`, since there are few of them
        among the vocabulary."""
        said = [*self.templates, *(each for other in self.others for each in self.about(other, self.templates))]
        return [fill(each, word) for word in self.of for each in said]

    def held(self, profile: Profile, encoders: Encoders, elsewhere: Sequence[str]) -> ProtectedWords:
        """Rows of what stays beside the vocabulary: X alone, X of `elsewhere`, and others of Y."""
        x, short = self.concept, _plain(profile, profile.vocabulary_templates, self.concept)
        alone = sentences_without(profile.sentences_for(x), self.of)
        parts = [vocabulary_rows(encoders, [x], alone)]
        parts.append(self._named(x, vocabulary_rows(encoders, elsewhere, self.about(x, short))))
        for other in self.others:
            parts.append(self._named(other, vocabulary_rows(encoders, self.of, self.about(other, self.templates))))
        return _together(parts)

    def _named(self, x: str, words: ProtectedWords) -> ProtectedWords:
        names = (self.phrase.replace("{x}", x).replace("{y}", y) for y in words.words)
        return ProtectedWords(tuple(names), words.rows)


def erase_bound(
    model: EditableModel,
    concepts: Sequence[str],
    of: Sequence[str],
    phrase: str | None,
    preserve: Sequence[str],
    options: Method,
    vocabulary: Sequence[str] | None,
    checked: bool,
    synonym: MoreWords,
    captions: Captions | None,
    preset: Mapping[str, str] | None,
) -> Edit:
    """Erase each of `concepts` where it is said of one of `of`, or of what is known or measured to mean the same.

    Raises:
        EditkitError: nothing is protected, so X would go everywhere; or as `erase`.
    """
    profile = model.profile
    check_known(model, [*concepts, *of])
    check_preserve([*concepts, *of], preserve)
    if not options.is_protected:
        raise EditkitError(
            "--from: what is said of other things stays by protection, got --protect none; give --protect minimax"
        )
    if options.tokens != "tail":
        raise EditkitError(
            f"--from: takes the rows that have read both words, got --tokens {options.tokens}; give --tokens tail"
        )
    own = list(vocabulary) if vocabulary is not None else model.own_words()
    same = synonyms_of(model, of, synonym, vocabulary)
    alike = list(dict.fromkeys(word for y in of for word in (y, *same[y])))
    elsewhere = words_to_protect(model, of, [*alike, *concepts], own)
    bounds = [
        Bound.make(profile, x, alike, phrase, other_styles(profile, [x]) or _others(model, x, elsewhere))
        for x in concepts
    ]

    def held(encoders: Encoders, words: Sequence[str]) -> ProtectedWords:
        def sentences(word: str) -> Sequence[str]:
            templates = profile.sentences_for(word)
            return sentences_without(templates, concepts) if word in alike else templates

        parts = [vocabulary_rows(encoders, [word for word in words if word not in concepts], sentences)]
        return _together([*parts, *(bound.held(profile, encoders, elsewhere) for bound in bounds)])

    request = Request(
        model, options, concepts, [", ".join(of)] * len(concepts), preserve, own, checked, same, captions=captions,
        preset=preset, of=tuple(of), phrase=bounds[0].phrase if phrase is None else phrase, held=held,
        without=[prompt for bound in bounds for prompt in bound.without()],
    )  # fmt: skip
    with request.clock("embeddings"):
        rows = [[bound.rows(stream.encoders) for bound in bounds] for stream in model.streams]
    return make_edit(request, rows)


def _others(model: EditableModel, concept: str, words: Sequence[str]) -> list[str]:
    """Words that may stand in the place of `concept`."""
    near = closeness(model.encoder, words, [concept], model.gram)[:, 0].topk(min(OTHERS, len(words))).indices
    nearest = [words[int(n)] for n in near]
    return list(dict.fromkeys([*nearest, *spread(words, OTHERS)]))


def _plain(profile: Profile, templates: Sequence[str], concept: str) -> list[str]:
    """`templates` that do not name X, nor for a style any other."""
    return sentences_without(templates, [concept, *(profile.styles if profile.is_style(concept) else ())])


def _together(parts: Sequence[ProtectedWords]) -> ProtectedWords:
    return ProtectedWords(
        tuple(word for part in parts for word in part.words), tuple(rows for part in parts for rows in part.rows)
    )


def _shared(rows: Tensor, others: Tensor) -> int:
    """How many rows both have in common from the start on."""
    count = min(len(rows), len(others))
    apart = (rows[:count] - others[:count]).norm(dim=1) > SAME * rows[:count].norm(dim=1)
    return int(apart.int().argmax()) if bool(apart.any()) else count
