"""From values to places on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`low` lies at `start`, `high` at `stop`; between them evenly, or by their logarithms."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        return _powers(self.low, self.high) if self.log else _even(self.low, self.high, wanted)


def covering(
    values: Iterable[float], start: float, stop: float, log: bool = False, zero: bool = True, most: float | None = None
) -> Scale:
    """A scale from a little below the least of `values` to a little above the largest. `most` is a limit of nature."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log:
        low, high = (low, high) if known else (0.1, 1.0)
        return Scale(
            10 ** math.floor(math.log10(low) - 1e-9), 10 ** math.ceil(math.log10(high) + 1e-9), start, stop, True
        )
    low = min(low, 0.0) if zero else low
    spread = (high - low) or abs(high) or 1.0
    low = low if zero and low == 0 else low - 0.06 * spread
    high = high + 0.06 * spread
    return Scale(low, high if most is None else max(min(high, most), low + 1e-9), start, stop)


def shown(value: float) -> str:
    """A number for a label: three digits, no needless zeros."""
    return f"{value:.3g}"


def _even(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**n for n in range(first, last + 1)]
