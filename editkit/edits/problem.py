"""What an edit is computed from, and what comes out: rows, projections, a vocabulary; maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.protect import ProtectedWords


@dataclass(frozen=True)
class Rows:
    """Embedding rows of one concept, and what they must become: `(n, d)` each."""

    source: Tensor
    target: Tensor


@dataclass(frozen=True)
class Problem:
    """Everything an edit is computed from.

    Attributes:
        rows: one entry per concept.
        preserve: `(m, d)` or None.
        projections: layer name → `W` `(o, d)`.
        gram: `Σ WᵀW`, `(d, d)`.
        protected: the vocabulary, or None where there is none to protect.
    """

    rows: tuple[Rows, ...]
    preserve: Tensor | None
    projections: Mapping[str, Tensor]
    gram: Tensor
    protected: ProtectedWords | None

    @cached_property
    def C(self) -> Tensor:
        """The rows to edit, `(n, d)` float64."""
        return torch.cat([rows.source for rows in self.rows]).double()

    @cached_property
    def targets(self) -> Tensor:
        """What they must become, `(n, d)` float64."""
        return torch.cat([rows.target for rows in self.rows]).double()


@dataclass(frozen=True)
class Solution:
    """The maps (one under `"*"`, or one per layer) and the matrix `B` they were solved with."""

    maps: Mapping[str, EditMap]
    B: Tensor
