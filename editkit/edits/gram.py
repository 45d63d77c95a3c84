"""`G = Σ WᵀW`: all that an edit needs to know of the projections."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

BLOCK = 192
"""Columns of a second moment that are summed at a time."""


def gram_matrix(projections: Iterable[Tensor], d: int) -> Tensor:
    """`Σ_i W_iᵀW_i`, `(d, d)` float64, of projections `W_i` `(o_i, d)`."""
    total = torch.zeros(d, d, dtype=torch.float64)
    for W in projections:
        exact = W.to(total)
        total.addmm_(exact.T, exact)
    return total


def second_moment(rows: Tensor) -> Tensor:
    """`XᵀX` of rows `X` `(n, d)`, symmetric to the bit; one half of it is computed."""
    total = rows.new_empty(rows.shape[1], rows.shape[1])
    for start in range(0, len(total), BLOCK):
        total[start : start + BLOCK, start:] = rows[:, start : start + BLOCK].T @ rows[:, start:]
    return total.triu() + total.triu(1).T  # a block on the diagonal need not come out symmetric to the bit


def square_root(gram: Tensor) -> Tensor:
    """A matrix `R` `(d, d)` with `RᵀR = G`: the size of `W x` over all projections is that of `R x`."""
    values, Q = torch.linalg.eigh(gram)
    return values.clamp(min=0).sqrt()[:, None] * Q.T


def norm(rows: Tensor, gram: Tensor) -> float:
    """`sqrt(Σ_i ‖W_i X‖²)` of rows `X` `(n, d)`: their size as the model's keys and values."""
    rows = rows.double()
    return float((rows @ gram * rows).sum().clamp(min=0).sqrt())


def cosine(first: Tensor, second: Tensor, gram: Tensor) -> Tensor:
    """Cosine of rows `(a, d)` and `(b, d)` as the model's keys and values see them, `(a, b)`."""
    size_first = (first @ gram * first).sum(1).clamp(min=1e-300).sqrt()
    size_second = (second @ gram * second).sum(1).clamp(min=1e-300).sqrt()
    return first @ gram @ second.T / size_first[:, None] / size_second
