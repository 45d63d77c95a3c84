"""Shares of pictures, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """`hits` of `count`, as a share between 0 and 1."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval: honest near 0 and 1 and for few pictures."""
        return wilson(self.value, self.count)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def wilson(share: float, count: float) -> tuple[float, float]:
    """95 % score interval of a share of `count` (Wilson 1927); `count` need not be whole."""
    if not count:
        return math.nan, math.nan
    z, n, p = 1.959964, count, share
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate(outcomes: Sequence[bool]) -> Rate:
    """The share of true outcomes."""
    return Rate(sum(outcomes), len(outcomes))
