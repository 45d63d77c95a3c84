"""What an edit is computed from, and what comes out: rows, projections, a vocabulary; maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.moments import Moments
from editkit.edits.protect import ProtectedWords


@dataclass(frozen=True)
class Rows:
    """Embedding rows of one concept, and what they must become: `(n, d)` each, float32 or float64."""

    source: Tensor
    target: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of several."""
        if len(parts) == 1:  # a thousand concepts may share one target: a copy for each would take gigabytes
            return parts[0]
        return cls(torch.cat([part.source for part in parts]), torch.cat([part.target for part in parts]))

    def weighted(self, weight: float) -> Rows:
        """Rows whose squared errors count `weight` times: every term of the sums is quadratic in a row and its
        target."""
        return Rows(self.source.double() * weight**0.5, self.target.double() * weight**0.5)


@dataclass(frozen=True)
class Problem:
    """Everything an edit is computed from.

    Attributes:
        rows: one entry per concept.
        found: more rows to erase, weighted already: see `with_found`.
        preserve: `(m, d)` or None.
        projections: layer name → `W` `(o, d)`.
        gram: `Σ WᵀW`, `(d, d)`.
        protected: the vocabulary, or None where there is none to protect.
        captions: second moment of captions to hold, `(d, d)`, or None.
        empty: rows of the empty prompt, `(n, d)`, or None where the method does not read them.
    """

    rows: tuple[Rows, ...]
    preserve: Tensor | None
    projections: Mapping[str, Tensor]
    gram: Tensor
    protected: ProtectedWords | None
    found: tuple[Rows, ...] = ()
    empty: Tensor | None = None
    captions: Tensor | None = None

    def with_found(self, found: Sequence[Rows | None], weight: float = 1.0) -> Problem:
        """The same with more rows to erase, those of found prompts or random ones: an entry per concept or None.

        All of a concept's together count `weight` times what its own rows count, however many they are;
        and the concepts' own rows count as before, so a concept does not slip back as rows are added.
        """
        pairs = [(rows, own) for rows, own in zip(found, self.rows, strict=True) if rows is not None]
        weighted = [rows.weighted(weight * len(own.source) / len(rows.source)) for rows, own in pairs]
        return replace(self, found=(*self.found, *weighted))

    @property
    def count(self) -> int:
        """How many rows the concepts have themselves."""
        return sum(len(rows.source) for rows in self.rows)

    @cached_property
    def own(self) -> Rows:
        """The concepts' own rows, `(n, d)` float64 each."""
        rows = Rows.joined(self.rows)
        return Rows(rows.source.double(), rows.target.double())

    @cached_property
    def all(self) -> Rows:
        """The concepts' rows and those erased along, weighted."""
        return Rows.joined([self.own, *self.found]) if self.found else self.own

    @property
    def is_tall(self) -> bool:
        """Whether there are more rows than dimensions, so that their `moments` say all."""
        return self.count + sum(len(rows.source) for rows in self.found) > len(self.gram)

    @cached_property
    def own_moments(self) -> Moments:
        """Of the concepts' own rows."""
        return self._moments(self.rows)

    @cached_property
    def moments(self) -> Moments:
        """Of the concepts' rows and those erased along, weighted."""
        return self.own_moments.plus(self._moments(self.found)) if self.found else self.own_moments

    def _moments(self, some: Sequence[Rows]) -> Moments:
        return Moments.of([(rows.source, rows.target) for rows in some], len(self.gram))

    @property
    def C(self) -> Tensor:
        """The rows to edit, `(n, d)` float64."""
        return self.all.source

    @property
    def targets(self) -> Tensor:
        """What they must become, `(n, d)` float64."""
        return self.all.target


@dataclass(frozen=True)
class Solution:
    """The maps (one under `"*"`, or one per layer) and the matrix `B` they were solved with.

    Attributes:
        allowed: the directions that they may read, `(d, q)`, where not all are; `B` is then `(q, q)`.
        leverage: of each concept, see `editkit.edits.solve.leverages`.
    """

    maps: Mapping[str, EditMap]
    B: Tensor
    allowed: Tensor | None = None
    leverage: tuple[float | None, ...] = ()
