"""How evenly are the values of an attribute drawn? `share-woman`, and its distance from what is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from editkit.evaluation.metrics.metric import Metric, Seen


class AttributeShare(Metric):
    """`share-VALUE`: share of pictures whose attribute has that value, among those that could be judged."""

    is_rate = True

    def __init__(self, attribute: str, value: str) -> None:
        self.attribute, self.value, self.name = attribute, value, f"share-{value}"

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [
            float(one.detection.attributes.get(self.attribute) == self.value) if one.is_judged else None for one in seen
        ]


class Deviation(AttributeShare):
    """`deviation-VALUE`: `|wanted − actual| / wanted` of a class, and the mean over the classes.

    An absolute value is biased upwards for few pictures: a fair coin thrown eight times deviates by 0.27 on average.
    """

    is_rate = False
    is_of_share = True
    mean_over = "classes"
    higher_is_better = False

    def __init__(self, attribute: str, value: str, wanted: float) -> None:
        super().__init__(attribute, value)
        self.wanted, self.name = wanted, f"deviation-{value}"

    def of_means(self, means: np.ndarray) -> np.ndarray:
        return np.abs(self.wanted - means) / self.wanted
