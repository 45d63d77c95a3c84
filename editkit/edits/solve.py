"""The ridge regression behind every closed-form edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError


@dataclass(frozen=True)
class Penalty:
    """What holds the weights where they are: `λI + s_p PᵀP + H`.

    Attributes:
        lamb: ridge weight λ ≥ 0.
        rows: `√s_p P`, `(m, d)`: the embeddings to preserve, already scaled.
        prior: `H` `(d, d)`, positive semi-definite: second moments of a protected vocabulary and of captions, or None.
        allowed: `N` `(d, q)`, orthonormal: the directions that an edit may read, or None for all. Whatever is
            orthogonal to them stays exactly where it is: a prior of infinite weight (SPEED, Eq. 4; ACE; DP).
    """

    lamb: float
    rows: Tensor
    prior: Tensor | None = None
    allowed: Tensor | None = None

    @classmethod
    def of(
        cls,
        lamb: float,
        P: Tensor | None,
        d: int,
        preserve_scale: float = 1.0,
        device: torch.device | None = None,
    ) -> Penalty:
        """`λI + preserve_scale · PᵀP` for embeddings `P` `(m, d)`; without any it lies on `device`."""
        if P is None:
            return cls(lamb, torch.zeros(0, d, dtype=torch.float64, device=device))
        return cls(lamb, P.double() * preserve_scale**0.5)

    def with_prior(self, prior: Tensor) -> Penalty:
        """The same with one more prior."""
        return replace(self, prior=prior if self.prior is None else self.prior + prior)

    def inside(self) -> Penalty:
        """The same in the coordinates of the allowed directions, `(q, q)`; there all are allowed."""
        N = self.allowed
        if N is None:
            return self
        return Penalty(self.lamb, self.coordinates(self.rows), None if self.prior is None else N.T @ self.prior @ N)

    def coordinates(self, rows: Tensor) -> Tensor:
        """What an edit may read of rows `(n, d)`: `(n, q)`, or the rows themselves where all directions are allowed."""
        return rows if self.allowed is None else rows @ self.allowed

    def matrix(self) -> Tensor:
        """`(d, d)`."""
        total = self.rows.T @ self.rows
        total.diagonal().add_(self.lamb)
        return total if self.prior is None else total + self.prior


def solve(C: Tensor, targets: Tensor, penalty: Penalty, erase_scale: float = 1.0) -> EditMap:
    """The map that sends `C` to `targets` and moves everything else as little as `penalty` asks.

    With `B = penalty + s_e CᵀC`: `M = I + s_e (C* − C)ᵀ C B⁻¹` (UCE Eq. 7, RECE Eq. 3, TIME Eq. 4, for all layers at
    once). Without a prior and with fewer rows than dimensions it solves in the space of the rows (the dual).

    Args:
        C: embeddings to edit, `(n, d)`.
        targets: what they must map to, `(n, d)`.
        penalty: see `Penalty`.
        erase_scale: `s_e`, the weight of the edit against the penalty.

    Raises:
        EditkitError: `B` is singular, which takes `lamb = 0` and fewer rows than dimensions.
    """
    C, targets = C.double(), targets.double()
    if len(C) > C.shape[1]:
        return solve_moments(C.T @ C, targets.T @ C, penalty, erase_scale)
    return EditMap(erase_scale * (targets - C).T, down_factor(C, penalty, erase_scale))


def down_factor(C: Tensor, penalty: Penalty, erase_scale: float = 1.0) -> Tensor:
    """`V = C B⁻¹`, `(n, d)`: what does not depend on the targets. Under `penalty.allowed` it is `C N (NᵀBN)⁻¹ Nᵀ`."""
    if (N := penalty.allowed) is not None:
        return down_factor(penalty.coordinates(C), penalty.inside(), erase_scale) @ N.T
    if penalty.prior is None and penalty.lamb > 0 and len(C) + len(penalty.rows) < C.shape[1]:
        return _dual(C, penalty, erase_scale)
    B = penalty.matrix() + erase_scale * C.T @ C
    return torch.cholesky_solve(C.T, _cholesky(B, penalty.lamb)).T


def leverages(concepts: Sequence[Tensor], penalty: Penalty, erase_scale: float = 1.0) -> tuple[float | None, ...]:
    """`b = s_e · λ_max(C B⁻¹ Cᵀ)` of each concept, `B` the penalty: how freely it can be erased. None: nothing is held.

    A ridge edit takes a single row `b / (1 + b)` of the way. Far below 1 the concept lies among what is protected: a
    soft edit erases little of it, and a hard one breaks them.

    Args:
        concepts: rows of each, `(n, d)`.
    """
    factor, failed = torch.linalg.cholesky_ex(penalty.inside().matrix())
    if failed or _nearly_singular(factor):
        return (None,) * len(concepts)
    white = (whitened(penalty.coordinates(C.double()), factor) for C in concepts)
    return tuple(erase_scale * _largest(rows) for rows in white)


def _largest(rows: Tensor) -> float:
    """The largest eigenvalue of `RRᵀ`, of the smaller of `RRᵀ` and `RᵀR`: a quarter of the time of singular values."""
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    return float(torch.linalg.eigvalsh(small)[-1].clamp(min=0))


def whitened(rows: Tensor, factor: Tensor) -> Tensor:
    """Rows in `B^−½`, so that their squared lengths are `c B⁻¹ cᵀ`; `factor` is the Cholesky factor of `B`."""
    return torch.linalg.solve_triangular(factor, rows.T, upper=False).T


def solve_moments(sources: Tensor, targets: Tensor, penalty: Penalty, erase_scale: float = 1.0) -> EditMap:
    """`solve` from `CᵀC` and `C*ᵀC`, `(d, d)` float64: all that it needs when there are more rows than dimensions."""
    difference = erase_scale * (targets - sources)
    V = torch.eye(len(sources), dtype=sources.dtype, device=sources.device)
    if (N := penalty.allowed) is not None:
        sources, difference, V = N.T @ sources @ N, difference @ N, N.T
    B = penalty.inside().matrix() + erase_scale * sources
    # M − I = (C*ᵀC − CᵀC) N (NᵀBN)⁻¹ Nᵀ; B is symmetric, so its transpose is one solve.
    return EditMap(torch.cholesky_solve(difference.T, _cholesky(B, penalty.lamb)).T, V)


def _dual(C: Tensor, penalty: Penalty, erase_scale: float) -> Tensor:
    """`V = C B⁻¹` by `S B⁻¹ = (λI + S Sᵀ)⁻¹ S` with `S = [√s_e C; √s_p P]`."""
    S = torch.cat([C * erase_scale**0.5, penalty.rows])
    inner = S @ S.T
    inner.diagonal().add_(penalty.lamb)
    V = torch.cholesky_solve(S, _cholesky(inner, penalty.lamb))[: len(C)]
    return V / erase_scale**0.5


def _cholesky(B: Tensor, lamb: float) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(B)
    if failed or not torch.isfinite(factor).all() or _nearly_singular(factor):
        raise EditkitError(
            f"the edit has no unique solution: its matrix is singular with lamb = {lamb:g}; "
            "use a larger --lamb (0.1 is a good start) or preserve more embeddings"
        )
    return factor


def _nearly_singular(factor: Tensor) -> bool:
    """The squared pivots bound the condition number from below; past 1e14 nothing of float64 is left."""
    pivots = factor.diagonal().square()
    return bool(pivots.min() < pivots.max() * 1e-14)
