"""The guide `in-class`: a word near the concept that costs others least (after AGE, Bui et al. 2025, on guides)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.method import Method
from editkit.edits.protect import ProtectedWords, prior
from editkit.edits.solve import Penalty, down_factor
from editkit.erasure.near import closeness
from editkit.erasure.rows import candidate_rows, vocabulary_rows
from editkit.model.editable import EditableModel, Stream

CANDIDATES = 10
"""Nearest words that are tried."""
SWEEPS = 10
"""Times that every guide is chosen anew; two or three settle them."""


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

    def choose(self, concepts: Sequence[str]) -> list[str]:
        """For each concept one of its nearest words, so that mean damage is least when all become theirs at once.

        One guide after the other is chosen for what the others are by then, until none changes: no other word for any
        one concept does better. The damage is in closed form, every word protected alike, and no picture is drawn.
        """
        if not concepts:
            return []
        near = closeness(self.model.encoder, self.words, concepts, self.model.gram)
        tried = near.argsort(0, descending=True)[:CANDIDATES].T.tolist()
        search = _Search(self, concepts, [[self.words[int(n)] for n in some] for some in tried])
        return search.settled()

    def moves(self, concept: str, candidates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Rows `C` of the concept `(n, d)`, and for each candidate how far they would move, `C* − C`, `(c, n, d)`."""
        # One template will do where every prompt takes long.
        templates = self.templates[:1] if self.model.encoder.slow else self.templates
        source, targets = candidate_rows(self.stream.encoders, concept, candidates, templates, self.options.tokens)
        return source.double(), targets.double() - source.double()

    @property
    def stream(self) -> Stream:
        """The one whose damage counts."""
        return self.model.streams[0]

    @cached_property
    def penalty(self) -> Penalty:
        """What holds every word, all alike."""
        alone = Penalty.of(self.options.lamb, None, self.stream.width, device=self.stream.gram.device)
        return prior(self._vocabulary, alone, self.options.strength)

    @cached_property
    def shares(self) -> Tensor:
        """`S = Σ_j P_jᵀP_j / ‖P_j‖²_G / J`, `(d, d)`: the mean damage of all words by `M` is `tr((M−I) S (M−I)ᵀ G)`."""
        sizes = self._vocabulary.sizes(self.stream.root)
        counts = self._vocabulary.lengths
        return self._vocabulary.moment(counts / sizes / len(counts))

    @cached_property
    def _vocabulary(self) -> ProtectedWords:
        return vocabulary_rows(self.stream.encoders, self.words, self.model.profile.sentences_for)


class _Search:
    """Coordinate descent over guides.

    With `M − I = s Σ_i D_iᵀ C_i B⁻¹` and `Q = s² B⁻¹ S B⁻¹` the mean damage is `tr(T Q Tᵀ G)`, `T = Σ_i D_iᵀ C_i`: a
    quadratic in the moves `D`, in which a guide meets the other concepts through `T` alone.
    """

    def __init__(self, chooser: InClass, concepts: Sequence[str], candidates: Sequence[Sequence[str]]) -> None:
        self.chooser, self.concepts, self.candidates = chooser, concepts, candidates
        self.gram = chooser.stream.gram
        C = torch.cat([chooser.moves(*pair)[0] for pair in zip(concepts, candidates, strict=True)])
        scale = 1 / len(C)
        eye = torch.eye(C.shape[1], dtype=torch.float64, device=C.device)
        B = Penalty(0.0, C * scale**0.5, chooser.penalty.matrix())
        inverse = scale * down_factor(eye, B, 0.0)
        self.Q = inverse @ chooser.shares @ inverse
        self.total = torch.zeros_like(self.Q)
        self.alone: list[Tensor | None] = [None] * len(concepts)
        self.chosen: list[int | None] = [None] * len(concepts)

    def settled(self) -> list[str]:
        for _ in range(SWEEPS):
            if not any([self._changed(i) for i in range(len(self.concepts))]):
                break
        return [some[n or 0] for some, n in zip(self.candidates, self.chosen, strict=True)]

    def _changed(self, i: int) -> bool:
        """Choose the guide of one concept; whether it is another than before."""
        C, D = self.chooser.moves(self.concepts[i], self.candidates[i])
        before = self.chosen[i]
        if before is not None:
            self.total -= D[before].T @ C
        alone = self.alone[i]
        if alone is None:
            alone = self.alone[i] = ((D @ self.gram) * (C @ self.Q @ C.T @ D)).sum((1, 2))
        with_others = (D * (C @ self.Q @ self.total.T @ self.gram)).sum((1, 2))
        best = int((alone + 2 * with_others).argmin())
        self.total += D[best].T @ C
        self.chosen[i] = best
        return best != before
