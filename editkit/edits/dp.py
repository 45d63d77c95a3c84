"""DP: the least edit that sends concepts to their guides exactly and leaves the protected span alone (2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.method import (
    NULL,
    PROTECT_HELP,
    PROTECTIONS,
    ROWS_HELP,
    STRENGTH_HELP,
    TOKENS,
    UNPROTECTED,
    Method,
    Tokens,
)
from editkit.edits.problem import Problem
from editkit.edits.solve import Penalty, whitened
from editkit.options import option


@dataclass(frozen=True)
class DP(Method):
    """Send a concept's rows to its guide's exactly, with the least change that does it, in directions that no word uses
    (double projection).
    """

    source: ClassVar[str] = "DP, Double Projections (CVPR 2026), from third-party notes"

    protect: str = option("null", PROTECT_HELP, choices=PROTECTIONS)
    tokens: Tokens = option("tail", ROWS_HELP, choices=TOKENS, otherwise={NULL: "last", UNPROTECTED: "last"})
    strength: float = option(0.5, STRENGTH_HELP, at_least=0, otherwise={NULL: 0.0})
    lamb: float = option(
        1e-4, "Ridge weight λ, against the weight of what is protected; without that it has no effect.", above=0
    )
    exact: float = option(
        1e-3, "Sums of rows that are shorter than this share of the longest are not sent: they cost most.", at_least=0
    )

    def map(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        return interpolated(problem.C, problem.targets, penalty, self.exact)


def interpolated(C: Tensor, targets: Tensor, penalty: Penalty, exact: float = 1e-3) -> EditMap:
    """`M = I + (C* − C)ᵀ X` with `X = (C B⁻¹ Cᵀ)⁺ C B⁻¹`: of all with `M C = C*` the least in `tr (M−I) B (M−I)ᵀ`.

    The limit of the ridge regression as its erase weight grows. With `B = λI` and the null space of the protected rows
    it is DP's `W (c* − c) xᵀ Nᵀ / ‖x‖²`, `x = Nᵀc`, for several concepts at once.

    Args:
        C, targets: `(n, d)`; the means of rows that lie close together go exactly, their differences by `exact`.
        penalty: `B`, and what may be read.
        exact: singular values of `C B^−½`, in shares of the largest, below which sums of rows are left alone.
    """
    C = C.double()
    factor = torch.linalg.cholesky(penalty.inside().matrix())
    left, sizes, right = torch.linalg.svd(whitened(penalty.coordinates(C), factor), full_matrices=False)
    rank = int((sizes > max(exact, 1e-10) * sizes[0]).sum())
    read = torch.linalg.solve_triangular(factor.T, right[:rank].T, upper=True).T / sizes[:rank, None]
    moves = left[:, :rank].T @ (targets.double() - C)
    return EditMap(moves.T, read if penalty.allowed is None else read @ penalty.allowed.T)
