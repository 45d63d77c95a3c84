"""A metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from editkit.evaluation.metrics.metric import Metric, Observation
from editkit.options import REQUIRED, option


@dataclass(frozen=True)
class Brightness(Metric):
    """Share of pictures that are brighter than a level."""

    is_rate: ClassVar[bool] = True

    level: float = option(REQUIRED, "From 0 to 1.", at_least=0)

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [float(each.is_judged and each.detection.score("light") > self.level) for each in observations]
