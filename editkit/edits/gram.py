"""`G = Σ WᵀW`: all that an edit needs to know of the projections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from editkit.hardware import float64_on, solving_device, whole_float32

BLOCK = 192
"""Columns of a second moment that are summed at a time."""
WIDE = 256
"""The same of projections."""
AT_ONCE = 1280
"""Rows of half precision that are summed in float32 before they are added in float64."""
MANY = 32
"""Rows for each column from which half precision is summed so: fewer take no time in float64, and their sum may be
nearly singular."""
SPLIT_AT_ONCE = 512
"""Rows that are split and summed in float32 before they are added in float64."""
SOME = 4
"""Rows for each column from which they are split where float64 is slow."""

Way = Literal["float64", "blocks", "split"]


def gram_matrix(projections: Iterable[Tensor], d: int, way: Way | None = None) -> Tensor:
    """`G = Σ_i W_iᵀW_i`, `(d, d)` float64, symmetric to the bit, of projections `W_i` `(o_i, d)`.

    It lies where they lie, but for devices without float64: then on the processor. With `u = 2⁻²⁴`, and in whatever
    order a processor adds:

    - `float64`: products and sums in float64.
    - `blocks`: `n` = `AT_ONCE` rows at a time in float32, whose sums are added in float64. The products and their sums
      round, of half precision the sums alone: `|Ĝ − G| ≤ n u / (1 − n u) · Σ |W_i|ᵀ|W_i|` in every entry, at most 8e-5
      of the sum of sizes. Errors of either sign mostly cancel: on random weights of SDXL's shapes `‖Ĝ − G‖ / ‖G‖` is
      4e-8, and the weights that RECE edits on random rows differ from those of a float64 `G` by 2e-7 of their norm as
      published, by 3e-7 under minimax. Stored as float16 they are off by 2e-4.
    - `split`: `W = H + L + R`, `n` = `SPLIT_AT_ONCE` rows at a time. `σ_j` is the power of two above column `j`; `H` is
      at most 2⁷ steps of `2⁻⁷ σ_j`, `L` 2⁷ steps of `2⁻¹⁵ σ_j`. So all sums of `HᵀH` and of `HᵀL + LᵀH` are integers
      of at most `2n · 2¹⁴ = 2²⁴` in their units, and exact in float32. Of `(L + R)ᵀ(L + R) + HᵀR + RᵀH` the `3n`
      products and their sums round. `|L + R| ≤ 2⁻⁸ σ_j`, `|R| ≤ 2⁻¹⁶ σ_j` and neither exceeds `|W|`, so

        |Ĝ − G| ≤ 3n u / (1 − 3n u) · Σ (|L + R|ᵀ|L + R| + |H|ᵀ|R| + |R|ᵀ|H|) ≤ 4.2e-9 Σ n σ_j σ_k

      and never above `5 · 9.2e-5 · Σ |W|ᵀ|W|`, however far a column's values lie apart (after Ozaki et al. 2012,
      "Error-free transformations of matrix multiplication", whose parts here are two and a remainder).

    Products below 2⁻¹²⁶ may be lost in float32, and what float64 rounds comes on top; what exceeds float32 is summed
    again in float64.

    Args:
        projections: float64, float32 or half precision.
        d: their columns.
        way: how all but float64 is summed, which keeps its digits. Default: half precision in `blocks` where there are
            `MANY` rows for each column; where float64 is slow all is `split`, from `SOME` rows for each column; else in
            `float64`.
    """
    given = list(projections) if isinstance(projections, Iterator) else projections
    rows = sum(len(W) for W in given)
    total = _summed(given, d, rows, way)
    if way != "float64" and not bool(total.isfinite().all()):
        total = _summed(given, d, rows, "float64")
    return _mirrored(total)


def _way_of(W: Tensor, rows: int, d: int, asked: Way | None) -> Way:
    if W.dtype == torch.float64:
        return "float64"
    if asked is not None:
        return asked
    if rows >= SOME * d and float64_on(W.device) != "fast":
        return "split"
    return "blocks" if W.dtype in (torch.float16, torch.bfloat16) and rows >= MANY * d else "float64"


def _summed(projections: Iterable[Tensor], d: int, rows: int, way: Way | None) -> Tensor:
    """What is on and above the diagonal of the sum; one projection is looked at after another."""
    total: Tensor | None = None
    for W in projections:
        if total is None:
            total = torch.zeros(d, d, dtype=torch.float64, device=solving_device(W.device))
        with whole_float32(W.device.type):
            _add_projection(total, W, _way_of(W, rows, d, way))
    return torch.zeros(d, d, dtype=torch.float64) if total is None else total


def _add_projection(total: Tensor, W: Tensor, way: Way) -> None:
    if way == "float64":
        _add_upper(total, W.to(total.device).to(total.dtype))
    elif way == "blocks":
        for some in W.split(AT_ONCE):
            _add_upper(total, some.float())
    else:
        for some in W.split(SPLIT_AT_ONCE):
            _add_parts(total, *parts(some.float()))


def _add_upper(total: Tensor, rows: Tensor) -> None:
    """Add `XᵀX` of rows `(n, d)`, summed in their precision, to `total` on and above the diagonal."""
    for start in range(0, len(total), WIDE):
        _add(total, start, rows, rows)


def _add(total: Tensor, start: int, left: Tensor, right: Tensor) -> None:
    """Add `XᵀY`, of `WIDE` rows of it what is right of the diagonal."""
    part = left[:, start : start + WIDE].T @ right[:, start:]
    total[start : start + WIDE, start:] += part.to(total.device)


def parts(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`H`, `L` and `R` with `H + L + R = W` exactly, of rows `W` `(n, d)` float32: see `gram_matrix`.

    >>> [[round(part.item(), 7) for part in parts(torch.tensor([[number]]))] for number in (1.0, 0.3)]
    [[1.0, 0.0, 0.0], [0.3007812, -0.0007782, -3e-06]]
    """
    top = rows.abs().amax(0).clamp(min=2.0**-60)
    below = (top.view(torch.int32) & 0x7F800000).view(torch.float32)  # the power of two that is no larger: σ / 2
    step = 1.5 * 2.0**17 * below  # what is added to it is rounded to 2⁻²³ of the power of two in it, 2⁻⁷ σ
    high = (rows + step) - step
    near = rows - high
    step = step * 2.0**-8
    low = (near + step) - step
    return high, low, near - low


def _add_parts(total: Tensor, high: Tensor, low: Tensor, rest: Tensor) -> None:
    near = low + rest
    pairs = (
        (high, high),
        (torch.cat([high, low]), torch.cat([low, high])),
        (torch.cat([near, high, rest]), torch.cat([near, rest, high])),
    )
    for start in range(0, len(total), WIDE):
        for left, right in pairs:  # each is added by itself: a sum of two would round
            _add(total, start, left, right)


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
