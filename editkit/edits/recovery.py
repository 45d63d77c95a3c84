"""How far an edit can be undone by embeddings of any kind, whoever finds them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gram import norm

NOTHING = 1e-13
"""Eigenvalues of `MᵀGM`, in shares of the largest, below which a direction is not reached."""


@dataclass(frozen=True)
class Recovery:
    """The least squares behind RECE Eq. 7, `min_c' ‖W M c' − W c‖²`, over every `c` and every λ_r.

    Attributes:
        values, Q: of `MᵀGM = Q diag(values) Qᵀ`, values ≥ 0.
        GM: `G M`, `(d, d)`.
        gram: `G`, `(d, d)`.
    """

    values: Tensor
    Q: Tensor
    GM: Tensor
    gram: Tensor

    @classmethod
    def of(cls, edit: EditMap, gram: Tensor) -> Self:
        """One eigendecomposition."""
        values, Q = torch.linalg.eigh(edit.moved_gram(gram))
        return cls(values.clamp(min=0), Q, gram + (gram @ edit.U) @ edit.V, gram)

    def floor(self, C: Tensor) -> float:
        """`ρ = min_C' ‖W M C' − W C‖ / ‖W C‖`: what of the concept no embedding brings back.

        `ρ² = 1 − Σ wᵀ(MᵀGM)⁺w / Σ cᵀGc` with `w = MᵀGc`. 0 where M can be inverted, as that of every edit by ridge
        regression; 1 where nothing of `C` can be reached.

        Args:
            C: rows of the concept, `(n, d)`.
        """
        if bool(self._reached.all()):  # M can be inverted
            return 0.0
        size = norm(C, self.gram) ** 2
        if size == 0:
            return 0.0
        reached = self._reached
        wanted = self._wanted(C)[reached]
        return max(0.0, 1 - float((wanted / self.values[reached]).sum()) / size) ** 0.5

    def norm(self, C: Tensor, within: float = 0.1) -> float | None:
        """`‖C'‖ / ‖C‖` of the smallest embedding with `‖W M C' − W C‖ ≤ within · ‖W C‖`, or None if there is none.

        RECE Eq. 7 over its whole path of λ_r: a bisection on log λ_r.
        """
        wanted, values = self._wanted(C), self.values
        size, length = norm(C, self.gram) ** 2, float(C.norm())
        if size == 0:
            return None

        def answer(log_reg: float) -> tuple[float, float]:
            share = 1 / (values + 10**log_reg)
            missed = size - float((wanted * share * (2 - share * values)).sum())
            return missed / size, float((wanted * share.square()).sum()) ** 0.5 / length

        scale = float(values[-1].log10()) if values[-1] > 0 else 0.0
        low, high = scale - 12, scale + 3
        if answer(low)[0] > within**2:
            return None
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if answer(middle)[0] > within**2 else (middle, high)
        return answer(low)[1]

    @cached_property
    def _reached(self) -> Tensor:
        return self.values > NOTHING * self.values.max()

    def _wanted(self, C: Tensor) -> Tensor:
        """`Σ_i (Qᵀ MᵀG c_i)²`, `(d,)`."""
        return (C @ self.GM @ self.Q).square().sum(0)
