"""The guide `in-class`: a word near the concept that costs others least (after AGE, Bui et al. 2025, on guides)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from editkit.edits.method import Method
from editkit.edits.protect import ProtectedWords, prior
from editkit.edits.solve import Penalty, solve
from editkit.embeddings.rows import Tokens
from editkit.erasure.rows import closeness, concept_rows, vocabulary_rows
from editkit.model.editable import EditableModel

CANDIDATES = 10
"""Nearest words that are tried."""


@dataclass(frozen=True)
class InClass:
    """Chooses a guide for each concept. Synonyms are no words of the vocabulary, so none is chosen.

    Attributes:
        words: the protected vocabulary.
        templates: prompts that an edit is solved over.
        lamb, strength: weights of the ridge and of the vocabulary.
    """

    model: EditableModel
    words: tuple[str, ...]
    templates: tuple[str, ...]
    tokens: Tokens
    lamb: float
    strength: float

    @classmethod
    def of(cls, model: EditableModel, words: Sequence[str], templates: Sequence[str], options: Method) -> InClass:
        return cls(model, tuple(words), tuple(templates), options.tokens, options.lamb, options.strength)

    def word(self, concept: str) -> str:
        """Of the words nearest to `concept` the one whose place it takes with the least mean damage of all words.

        The damage is that of the concept erased alone, every word protected alike: in closed form, no picture.
        """
        near = closeness(self.model.encoder, self.words, [concept], self.model.gram)[:, 0]
        candidates = [self.words[n] for n in near.argsort(descending=True)[:CANDIDATES].tolist()]
        return min(candidates, key=lambda word: self._damage(concept, word))

    def _damage(self, concept: str, guide: str) -> float:
        stream = self.model.streams[0]
        rows = concept_rows(stream.encoders, concept, guide, self.templates, self.tokens)
        edit = solve(rows.source, rows.target, self._penalty, 1 / len(rows.source))
        return float(self._vocabulary.damage(edit, stream.gram).mean())

    @cached_property
    def _vocabulary(self) -> ProtectedWords:
        templates = self.model.profile.vocabulary_templates
        return vocabulary_rows(self.model.streams[0].encoders, self.words, templates)

    @cached_property
    def _penalty(self) -> Penalty:
        ridge = Penalty.of(self.lamb, None, self.model.streams[0].width)
        return prior(self._vocabulary, ridge, self.strength)
