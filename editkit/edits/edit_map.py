"""The edit itself: one small linear map on text embeddings, shared by every layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.hardware import solving_device

LOST = 1e-9
"""Singular value from which a direction counts as lost."""


@dataclass(frozen=True)
class EditMap:
    """`M = I + U V`, the map that every closed-form edit comes down to.

    An edited projection is `W' = W M`. Since `W' c = W (M c)`, multiplying the prompt's embedding by `M` draws the
    same picture as the edited weights do. `ΔW = (W U) V` is a low-rank update whose down factor `V` all layers share.

    Attributes:
        U: `(d, r)` float64.
        V: `(r, d)` float64.
    """

    U: Tensor
    V: Tensor

    def __post_init__(self) -> None:
        if self.U.ndim != 2 or self.V.ndim != 2 or self.U.shape != self.V.shape[::-1]:
            raise ValueError(
                f"EditMap: U must be (d, r) and V (r, d), but got {(*self.U.shape,)} and {(*self.V.shape,)}"
            )

    @classmethod
    def identity(cls, d: int, device: torch.device | None = None) -> EditMap:
        """The map that changes nothing."""
        zeros = torch.zeros(d, 0, dtype=torch.float64, device=device)
        return cls(zeros, zeros.T)

    @property
    def width(self) -> int:
        """Width `d` of the embeddings it maps."""
        return self.U.shape[0]

    @property
    def rank(self) -> int:
        """Numerical rank of `M − I`, from the singular values of the factors."""
        sizes = self._core[1]
        if sizes.numel() == 0 or sizes[0] == 0:
            return 0
        return int((sizes > sizes[0] * max(self.U.shape) * torch.finfo(sizes.dtype).eps).sum())

    @property
    def kernel_rank(self) -> int:
        """How many directions `M` sends to nothing: as many as `I + V U` does, `(r, r)`."""
        short = self.shortest
        small = torch.eye(short.V.shape[0], dtype=short.V.dtype, device=short.V.device) + short.V @ short.U
        if not small.numel() or not bool(small.isfinite().all()):
            return 0
        sizes = torch.linalg.svdvals(small)
        return int((sizes < LOST * sizes[0].clamp(min=1)).sum())

    @cached_property
    def shortest(self) -> EditMap:
        """The same map to rounding: factors no longer than its rank, the rows of `V` orthonormal. A map that is not
        finite has none, and stays as it is."""
        finite = bool(self.U.isfinite().all() and self.V.isfinite().all())
        return self.truncate(self.rank)[0] if finite else self

    def dense(self) -> Tensor:
        """`M` itself, `(d, d)`."""
        return torch.eye(self.width, dtype=self.U.dtype, device=self.U.device) + self.U @ self.V

    def moved_gram(self, gram: Tensor) -> Tensor:
        """`MᵀGM`, `(d, d)`, of a symmetric `G` `(d, d)`: by the factors, since a product of two whole matrices takes
        many times as long where these are short."""
        if 2 * self.U.shape[1] > self.width:
            M = self.dense()
            return M.T @ (gram @ M)
        GU = gram @ self.U
        half = (GU + self.V.T @ (self.U.T @ GU) / 2) @ self.V
        return gram + half + half.T

    def embeddings(self, c: Tensor) -> Tensor:
        """`M c` for every row of `c` `(..., d)`; computed in the map's precision, returned in the dtype of `c`."""
        rows = c.to(self.U.device).to(self.U.dtype).reshape(-1, self.width)
        return torch.addmm(rows, rows @ self.V.T, self.U.T).view(c.shape).to(c.dtype).to(c.device)

    def weight(self, W: Tensor) -> Tensor:
        """`W M` for a projection `W` `(o, d)`; computed in the map's precision, cast once to the dtype of `W`."""
        exact = W.to(self.U.device).to(self.U.dtype)  # one after the other: W may lie where there is no float64
        return torch.addmm(exact, exact @ self.U, self.V).to(W.dtype).to(W.device)

    def then(self, later: EditMap) -> EditMap:
        """Both edits, this one first: weights become `(W M) M_later`. The order matters."""
        if not later.U.shape[1]:
            return self.compact()  # nothing follows: a copy in another layout would add up in another order
        U = torch.cat([self.U, self.embeddings(later.U.T).T], dim=1)
        return EditMap(U, torch.cat([self.V, later.V])).compact()

    def compact(self) -> EditMap:
        """The same map with factors no longer than its width: with more rows than that, `U V` itself is smaller."""
        if self.U.shape[1] <= self.width:
            return self
        return EditMap(self.U @ self.V, torch.eye(self.width, dtype=self.U.dtype, device=self.U.device))

    def scale(self, strength: float) -> EditMap:
        """`I + strength · U V`: 0 is no edit, 1 the whole, between them an interpolation."""
        return EditMap(self.U * strength, self.V)

    def widened(self, width: int) -> EditMap:
        """The same map on wider inputs whose further components it leaves alone: `diag(M, I)`."""
        more = width - self.width
        if more == 0:
            return self
        pad = torch.nn.functional.pad
        return EditMap(pad(self.U, (0, 0, 0, more)), pad(self.V, (0, more)))

    def narrowed(self, width: int) -> EditMap | None:
        """The map that `widened` made this one of, or None where it moves or reads more than the first `width`
        components."""
        if self.width < width or bool(self.U[width:].any()) or bool(self.V[:, width:].any()):
            return None
        return self if self.width == width else EditMap(self.U[:width], self.V[:, :width])

    def to(self, device: str | torch.device) -> EditMap:
        """The same on `device`, or on the processor for a device without float64."""
        where = solving_device(device)
        return EditMap(self.U.to(where), self.V.to(where))

    def truncate(self, rank: int | None = None, error: float = 0.0) -> tuple[EditMap, float]:
        """The nearest map of a smaller rank (singular value decomposition of `U V`), and the error made.

        The error is `‖M − M'‖_F / ‖M − I‖_F`. With `rank`, at most that many directions stay; otherwise the fewest
        that keep the error at or below `error`.
        """
        left, sizes, right = self._core
        total = float(sizes.norm())
        if total == 0:
            return EditMap.identity(self.width, self.U.device), 0.0
        left_out = sizes.square().flip(0).cumsum(0).flip(0).sqrt() / total
        keep = int((left_out > error).sum()) if rank is None else min(rank, len(sizes))
        made = float(left_out[keep]) if keep < len(sizes) else 0.0
        return EditMap(left[:, :keep] * sizes[:keep], right[:keep]), made

    @cached_property
    def _core(self) -> tuple[Tensor, Tensor, Tensor]:
        """Singular value decomposition of `U V` without forming it."""
        Qu, Ru = torch.linalg.qr(self.U)
        Qv, Rv = torch.linalg.qr(self.V.T)
        left, sizes, right = torch.linalg.svd(Ru @ Rv.T)
        return Qu @ left[:, : len(sizes)], sizes, right[: len(sizes)] @ Qv.T
