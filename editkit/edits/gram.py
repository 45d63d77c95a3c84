"""`G = Σ WᵀW`: all that an edit needs to know of the projections."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

BLOCK = 192
"""Columns of a second moment that are summed at a time."""
WIDE = 256
"""The same of projections."""
AT_ONCE = 1280
"""Rows of half precision that are summed in float32 before they are added in float64."""
MANY = 32
"""Rows for each column from which half precision is summed so: fewer take no time in float64, and their sum may be
nearly singular."""


def gram_matrix(projections: Iterable[Tensor], d: int) -> Tensor:
    """`Σ_i W_iᵀW_i`, `(d, d)` float64, symmetric to the bit, of projections `W_i` `(o_i, d)`.

    A product of two float16 or bfloat16 numbers is a float32 number, so only sums round. Where there are `MANY` rows
    for each column, those of half precision are summed in float32, `AT_ONCE` rows at a time, and the sums in float64.
    In whatever order a processor adds,

        |Ĝ − G| ≤ n u / (1 − n u) · Σ |W_i|ᵀ|W_i|,    n = `AT_ONCE`, u = 2⁻²⁴

    in every entry: at most 8e-5 of the sum of sizes. Errors of either sign mostly cancel: on random weights of SDXL's
    shapes `‖Ĝ − G‖ / ‖G‖` is 4e-8, and the weights that RECE edits on random rows differ from those of a float64 `G` by
    2e-7 of their norm as published, by 3e-7 under minimax. Stored as float16 they are off by 2e-4.

    A collection is gone through twice, and one projection is held at a time: values that are read when they are looked
    at are never all in memory.
    """
    projections = projections if isinstance(projections, Collection) else list(projections)
    total = torch.zeros(d, d, dtype=torch.float64)
    is_long = sum(len(W) for W in projections) >= MANY * d
    for W in projections:
        if is_long and W.dtype in (torch.float16, torch.bfloat16):
            for rows in W.split(AT_ONCE):
                _add_upper(total, rows.to(total.device, torch.float32))
        else:
            _add_upper(total, W.to(total))
    return _mirrored(total)


def _add_upper(total: Tensor, rows: Tensor) -> None:
    """Add `XᵀX` of rows `(n, d)`, summed in their precision, to `total` on and above the diagonal."""
    for start in range(0, len(total), WIDE):
        total[start : start + WIDE, start:] += rows[:, start : start + WIDE].T @ rows[:, start:]


def _mirrored(upper: Tensor) -> Tensor:
    """The symmetric matrix of what is on and above the diagonal."""
    return upper.triu() + upper.triu(1).T  # a block on the diagonal need not come out symmetric to the bit


def second_moment(rows: Tensor) -> Tensor:
    """`XᵀX` of rows `X` `(n, d)`, symmetric to the bit; one half of it is computed."""
    total = rows.new_empty(rows.shape[1], rows.shape[1])
    for start in range(0, len(total), BLOCK):
        total[start : start + BLOCK, start:] = rows[:, start : start + BLOCK].T @ rows[:, start:]
    return _mirrored(total)


def square_root(gram: Tensor) -> Tensor:
    """A matrix `R` `(d, d)` with `RᵀR = G`: the size of `W x` over all projections is that of `R x`.

    Cholesky's, which takes a tenth of the time of eigenvectors; of a singular `G` it is made of those.
    """
    factor, failed = torch.linalg.cholesky_ex(gram, upper=True)
    if not failed:
        return factor
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
