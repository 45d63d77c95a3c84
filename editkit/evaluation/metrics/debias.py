"""How evenly are the values of an attribute drawn? `share-woman`, and its distance from what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import Kit, Metric, Observation, TargetShares, held
from editkit.options import REQUIRED, option


@dataclass(frozen=True)
class Share(Metric):
    """Share of pictures whose attribute has that value, among those that could be judged."""

    is_rate = True

    value: str = option(REQUIRED, "Of the attribute that [debias] of the suite names.")
    attribute: str = held()

    def check(self, target: TargetShares) -> None:
        if self.value not in target.shares:
            known = ", ".join(target.shares) or "none"
            raise EditkitError(
                f"metric {self.name!r}: expected a value that [debias.wanted] of the suite names ({known})"
            )

    def prepare(self, kit: Kit) -> Self:
        return self.holding(attribute=kit.target.attribute)

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [
            float(each.detection.attributes.get(self.attribute) == self.value) if each.is_judged else None
            for each in observations
        ]


@dataclass(frozen=True)
class Deviation(Share):
    """How far a share is from the wanted one, as a part of that; the mean over the classes.

    `|wanted − actual| / wanted` of a class.
    An absolute value is biased upwards for few pictures: a fair coin thrown eight times deviates by 0.27 on average.
    """

    is_rate = False
    is_of_share = True
    mean_over = "classes"
    higher_is_better = False

    target: float = held()

    def prepare(self, kit: Kit) -> Self:
        return super().prepare(kit).holding(target=kit.target.shares[self.value])

    def of_means(self, means: np.ndarray) -> np.ndarray:
        return np.abs(self.target - means) / self.target
