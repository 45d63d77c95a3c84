"""A change of a weight as two thin factors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Decomposition = tuple[Tensor, Tensor, Tensor]
"""Left vectors `(o, k)`, singular values `(k,)` and right vectors `(k, i)`, float64."""


@dataclass(frozen=True)
class LowRank:
    """`ΔW = up @ down`: `up` `(o, r)`, `down` `(r, i)`; a convolution's kernel is flattened to `(o, i)`."""

    up: Tensor
    down: Tensor

    def change(self, W: Tensor) -> Tensor:
        """`ΔW` in the shape of `W`, float32, where `W` is."""
        return (self.up.float() @ self.down.float()).view(W.shape).to(W.device)

    def float(self) -> LowRank:
        return LowRank(self.up.float(), self.down.float())

    def svd(self) -> Decomposition:
        """Singular value decomposition of `ΔW` without forming it: `downᵀ = Q R` has it inherit the right vectors of
        the thin `up Rᵀ`."""
        Q, R = torch.linalg.qr(self.down.double().T)
        left, sizes, right = torch.linalg.svd(self.up.double() @ R.T, full_matrices=False)
        return left, sizes, right @ Q.T
