"""The guide `in-class`: a word near the concept that costs others least (after AGE, Bui et al. 2025, on guides)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from editkit.edits.method import Method
from editkit.edits.protect import ProtectedWords, prior
from editkit.edits.solve import Penalty, solve
from editkit.erasure.rows import closeness, concept_rows, vocabulary_rows
from editkit.model.editable import EditableModel, Stream

CANDIDATES = 10
"""Nearest words that are tried."""


@dataclass(frozen=True)
class InClass:
    """Chooses a guide for each concept. Synonyms are no words of the vocabulary, so none is chosen.

    Attributes:
        words: the protected vocabulary.
        templates: prompts that an edit is solved over.
        options: whose rows, ridge and weight of the vocabulary are taken.
    """

    model: EditableModel
    words: Sequence[str]
    templates: Sequence[str]
    options: Method

    def word(self, concept: str) -> str:
        """Of the words nearest to `concept` the one whose place it takes with the least mean damage of all words.

        The damage is that of the concept erased alone, every word protected alike: in closed form, no picture.
        """
        near = closeness(self.model.encoder, self.words, [concept], self.model.gram)[:, 0]
        candidates = [self.words[int(n)] for n in near.argsort(descending=True)[:CANDIDATES].tolist()]
        return min(candidates, key=lambda word: self.damage(concept, word))

    def damage(self, concept: str, guide: str) -> float:
        """Mean damage of all words when `concept` alone becomes `guide` and every word is protected alike.

        It is `tr(UᵀGU · V D Vᵀ)` with `D` the mean over words of `PᵀP / ‖P‖²_G`, for `M = I + U V`.
        """
        rows = concept_rows(self._stream.encoders, concept, guide, self._templates, self.options.tokens)
        edit = solve(rows.source, rows.target, self._penalty, 1 / len(rows.source))
        return float(((edit.U.T @ self._stream.gram @ edit.U) * (edit.V @ self._shares @ edit.V.T)).sum())

    @property
    def _stream(self) -> Stream:
        return self.model.streams[0]

    @property
    def _templates(self) -> Sequence[str]:
        """One will do where every prompt takes long."""
        return self.templates[:1] if self.model.encoder.slow else self.templates

    @cached_property
    def _vocabulary(self) -> ProtectedWords:
        return vocabulary_rows(self._stream.encoders, self.words, self.model.profile.vocabulary_templates)

    @cached_property
    def _penalty(self) -> Penalty:
        return prior(self._vocabulary, Penalty.of(self.options.lamb, None, self._stream.width), self.options.strength)

    @cached_property
    def _shares(self) -> Tensor:
        sizes = self._vocabulary.sizes(self._stream.root)
        counts = self._vocabulary.lengths
        return self._vocabulary.moment(counts / sizes / len(counts))
