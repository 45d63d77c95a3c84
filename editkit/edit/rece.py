"""RECE: derive the embeddings that still bring a concept back, and erase those too (Gong et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from editkit.edit.edit_map import EditMap
from editkit.edit.solve import Penalty, solve
from editkit.errors import EditkitError


def derive(edit: EditMap, gram: Tensor, C: Tensor, reg: float) -> Tensor:
    """The embeddings `C'` `(n, d)` that make the edited model answer as the original does to `C` (RECE Eq. 8).

    `c' = (λ_r I + MᵀGM)⁻¹ MᵀG c` with `G = Σ WᵀW` over all projections. A larger `reg` (λ_r) gives smaller `C'`, and
    a smaller loss elsewhere when they are erased (RECE Theorem 1).
    """
    M = edit.dense()
    GM = gram @ M
    A = M.T @ GM
    A.diagonal().add_(reg)
    factor, failed = torch.linalg.cholesky_ex(A)
    if failed or not torch.isfinite(factor).all():
        raise EditkitError(
            f"RECE cannot derive embeddings: the edited projections are singular with reg = {reg:g}, or not finite; "
            "use a larger --reg (0.1 is a good start)"
        )
    return torch.cholesky_solve(GM.T @ C.double().T, factor).T


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
    edit = solve(C, targets, penalty, erase_scale).compact()
    rows, wanted = C.double(), targets.double()
    for _ in range(epochs):
        derived = derive(edit, gram, C, reg)
        if joint:
            rows, wanted = torch.cat([rows, derived]), torch.cat([wanted, targets.double()])
            edit = solve(rows, wanted, penalty, erase_scale).compact()
        else:
            edit = edit.then(solve(derived, targets, penalty, erase_scale))
    return edit
