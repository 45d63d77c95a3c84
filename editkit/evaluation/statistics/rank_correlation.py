"""Do two measures put the same things in the same order?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from editkit.errors import EditkitError

RESAMPLES = 2000
FEWEST = 4


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of `count` pairs with its 95 % interval."""

    rho: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.rho:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spearman(first: Sequence[float], second: Sequence[float], seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation, ties at their mean rank; percentile bootstrap over the pairs (`RESAMPLES`, `seed`).

    Raises:
        EditkitError: fewer than four pairs, or a measure that is the same everywhere: there is no order to compare.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if len(a) != len(b):
        raise ValueError(f"spearman: {len(a)} and {len(b)} values")
    if len(a) < FEWEST:
        raise EditkitError(f"a rank correlation needs at least {FEWEST} words, got {len(a)}; give a longer vocabulary")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise EditkitError("a rank correlation needs values that differ, but one measure is the same for every word")
    picks = np.random.default_rng(seed).integers(len(a), size=(RESAMPLES, len(a)))
    drawn = rho(a[picks], b[picks])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return RankCorrelation(float(rho(a[None], b[None])[0]), float(low), float(high), len(a))


def rho(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the ranks, row by row; nan where a row is constant."""
    ranks = [_ranks(values) for values in (a, b)]
    x, y = (own - own.mean(1, keepdims=True) for own in ranks)
    sizes = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.divide((x * y).sum(1), sizes, out=np.full(len(x), np.nan), where=sizes > 0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 of every row, equal values at the mean of theirs."""
    ordered = np.sort(values, axis=1)
    first = np.stack([np.searchsorted(row, own, "left") for row, own in zip(ordered, values, strict=True)])
    after = np.stack([np.searchsorted(row, own, "right") for row, own in zip(ordered, values, strict=True)])
    return (first + after - 1) / 2
