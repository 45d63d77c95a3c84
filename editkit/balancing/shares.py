"""Shares of pictures, with intervals: what was counted, and whether it is surely near what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.evaluation.statistics.rates import Rate

KEPT = 0.9
"""Of the pictures that showed the concept: where fewer still do, the weights have left it."""


@dataclass(frozen=True)
class Tally:
    """What a judge saw in the pictures of one concept.

    Attributes:
        counts: pictures with each attribute.
        judged: pictures that could be judged; one of them may show none of the attributes.
        failed: pictures that could not.
        kept: pictures that show the concept; None where nobody knows what the judge calls it.
    """

    counts: tuple[int, ...]
    judged: int
    failed: int = 0
    kept: int | None = None

    @property
    def shares(self) -> tuple[Rate, ...]:
        """Of every attribute."""
        return tuple(Rate(count, self.judged) for count in self.counts)

    @property
    def smoothed(self) -> tuple[float, ...]:
        """`(n_t + ½) / (N + A/2)`: no share is 0, so that each has a logarithm."""
        total = self.judged + len(self.counts) / 2
        return tuple((count + 0.5) / total for count in self.counts)

    def misses(self, wanted: Sequence[float]) -> float:
        """How far the worst share is from what is wanted."""
        return max(abs(rate.value - ratio) for rate, ratio in zip(self.shares, wanted, strict=True))

    def is_within(self, wanted: Sequence[float], most: float) -> bool:
        """Whether every interval lies within `most` of what is wanted."""
        pairs = zip(self.shares, wanted, strict=True)
        return all(ratio - most <= rate.interval[0] and rate.interval[1] <= ratio + most for rate, ratio in pairs)

    def allows(self, wanted: Sequence[float]) -> bool:
        """Whether every interval holds what is wanted: these pictures cannot tell the two apart."""
        pairs = zip(self.shares, wanted, strict=True)
        return all(rate.interval[0] <= ratio <= rate.interval[1] for rate, ratio in pairs)

    def stays(self, before: Tally) -> bool:
        """Whether the concept is still drawn nearly as often as `before`; True where nobody knows."""
        if self.kept is None or before.kept is None or not self.judged or not before.judged:
            return True
        return self.kept / self.judged >= KEPT * before.kept / before.judged

    def as_dict(self) -> dict[str, object]:
        """As JSON."""
        return {"counts": list(self.counts), "judged": self.judged, "failed": self.failed, "kept": self.kept}
