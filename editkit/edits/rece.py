"""RECE: derive the embeddings that still bring a concept back, and erase those too (Gong et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.method import UNPROTECTED, Method
from editkit.edits.problem import Problem
from editkit.edits.solve import Penalty, solve, solve_moments
from editkit.errors import EditkitError
from editkit.options import option


@dataclass(frozen=True)
class RECE(Method):
    """Erase as UCE does, then derive the embeddings that still bring the concept back, and erase those too."""

    source: ClassVar[str] = "Gong et al. 2024, Eq. 8 and Algorithm 1"

    preserve_scale: float = option(1.0, "Weight of the preserved prompts.", at_least=0, otherwise={UNPROTECTED: 0.1})
    reg: float = option(0.1, "λ_r of the derived embeddings: larger derives smaller ones.", at_least=0)
    epochs: int = option(1, "Rounds of derive and erase.", at_least=0, otherwise={UNPROTECTED: 3})
    joint: bool = option(
        True,
        "Solve for all derived rows at once, against the original weights, instead of editing the edited ones.",
        otherwise={UNPROTECTED: False},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard:
            raise EditkitError("--hard: leaves nothing to derive, since no embedding brings it back; use --method uce")

    @property
    def reads_projections(self) -> bool:
        return True

    def map(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        how = (penalty, problem.gram, self.reg, self.epochs, erase_scale, self.joint)
        if not problem.is_tall:
            return rece(problem.C, problem.targets, *how)
        moments = problem.moments  # summed once for all rounds of minimax
        return _rounds(_Moments(moments.sources, moments.crossed), *how)


def derive(edit: EditMap, gram: Tensor, C: Tensor, reg: float) -> Tensor:
    """The embeddings `C'` `(n, d)` that make the edited model answer as the original does to `C` (RECE Eq. 8).

    `c' = (λ_r I + MᵀGM)⁻¹ MᵀG c` with `G = Σ WᵀW` over all projections. A larger `reg` (λ_r) gives smaller `C'`, and
    a smaller loss elsewhere when they are erased (RECE Theorem 1).
    """
    A, asked = edit.moved_gram(gram), C.double() @ gram
    A.diagonal().add_(reg)
    factor, failed = torch.linalg.cholesky_ex(A)
    if failed or not torch.isfinite(factor).all():
        raise EditkitError(
            f"RECE cannot derive embeddings: the edited projections are singular with reg = {reg:g}, or not finite; "
            "use a larger --reg (0.1 is a good start)"
        )
    return torch.cholesky_solve((asked + asked @ edit.U @ edit.V).T, factor).T


def rece(
    C: Tensor,
    targets: Tensor,
    penalty: Penalty,
    gram: Tensor,
    reg: float = 0.1,
    epochs: int = 3,
    erase_scale: float = 1.0,
    joint: bool = False,
) -> EditMap:
    """RECE Algorithm 1: erase `C` as UCE does, then `epochs` times derive `C'` and erase it.

    Args:
        C, targets: `(n, d)`; rows of one or of many concepts.
        gram: `G`, `(d, d)`.
        reg: λ_r of Eq. 8.
        epochs: rounds of derive and erase; 0 is UCE.
        joint: False is the paper: every epoch edits the current weights, `M ← M S`. True solves for all rows derived
            so far at once, against the original weights: a protected vocabulary is then held to the original and
            not to the last epoch's copy of it.
    """
    C, targets = C.double(), targets.double()
    if len(C) <= C.shape[1]:
        return _rounds(_Pairs(C, targets), penalty, gram, reg, epochs, erase_scale, joint)
    return _rounds(_Moments(C.T @ C, targets.T @ C), penalty, gram, reg, epochs, erase_scale, joint)


@dataclass(frozen=True)
class _Pairs:
    """The rows themselves: fewer of them than dimensions."""

    C: Tensor
    targets: Tensor

    def solve(self, penalty: Penalty, erase_scale: float) -> EditMap:
        return solve(self.C, self.targets, penalty, erase_scale)

    def derived(self, edit: EditMap, gram: Tensor, reg: float) -> _Pairs:
        return _Pairs(derive(edit, gram, self.C, reg), self.targets)

    def plus(self, other: _Pairs) -> _Pairs:
        return _Pairs(torch.cat([self.C, other.C]), torch.cat([self.targets, other.targets]))


@dataclass(frozen=True)
class _Moments:
    """`CᵀC` and `C*ᵀC`, all that an edit needs of more rows than dimensions. Deriving is linear in `C`, `C' = C Kᵀ`,
    so an epoch costs the same for ten rows and for a hundred thousand."""

    sources: Tensor
    targets: Tensor

    def solve(self, penalty: Penalty, erase_scale: float) -> EditMap:
        return solve_moments(self.sources, self.targets, penalty, erase_scale)

    def derived(self, edit: EditMap, gram: Tensor, reg: float) -> _Moments:
        Kt = derive(edit, gram, torch.eye(len(gram), dtype=torch.float64, device=gram.device), reg)
        sources = Kt.T @ self.sources @ Kt
        return _Moments((sources + sources.T) / 2, self.targets @ Kt)

    def plus(self, other: _Moments) -> _Moments:
        return _Moments(self.sources + other.sources, self.targets + other.targets)


class _Rows(Protocol):
    def solve(self, penalty: Penalty, erase_scale: float) -> EditMap: ...
    def derived(self, edit: EditMap, gram: Tensor, reg: float) -> Self: ...
    def plus(self, other: Self) -> Self: ...


def _rounds(
    first: _Rows, penalty: Penalty, gram: Tensor, reg: float, epochs: int, erase_scale: float, joint: bool
) -> EditMap:
    edit, known = first.solve(penalty, erase_scale), first
    for _ in range(epochs):
        derived = first.derived(edit, gram, reg)
        if joint:
            known = known.plus(derived)
            edit = known.solve(penalty, erase_scale)
        else:
            edit = edit.then(derived.solve(penalty, erase_scale))
    return edit
