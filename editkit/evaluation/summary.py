"""From one number a picture to means with intervals, per class and over all, and to differences of variants."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from editkit.evaluation.metrics.metric import Metric
from editkit.evaluation.statistics.intervals import (
    Estimate,
    classwise_interval,
    cluster_marks,
    mcnemar,
    paired_difference,
    rate_difference,
    rate_interval,
)

Numbers = Mapping[str, Sequence[float | None]]
"""Metric → one number a picture."""


@dataclass(frozen=True)
class Pictures:
    """What the pictures of every variant have in common, one entry a picture."""

    labels: Sequence[str]
    roles: Sequence[str]
    clusters: Sequence[Hashable]
    unit: str

    @classmethod
    def of(cls, labels: Sequence[str], roles: Sequence[str], prompts: Sequence[str], seeds: Sequence[int]) -> Pictures:
        unit, clusters = cluster_marks(labels, prompts, seeds)
        return cls(labels, roles, clusters, unit)

    def groups(self, metric: Metric, places: Sequence[int]) -> list[str] | None:
        """What the metric is the mean over, for the pictures at `places`; None is the pictures themselves."""
        marks = {"classes": self.labels, "roles": self.roles}.get(metric.mean_over)
        return None if marks is None else [marks[n] for n in places]


def estimate(metric: Metric, values: Sequence[float | None], pictures: Pictures) -> Estimate:
    """The value of all pictures that the metric is about. A function of one share reaches from the least to the most
    that it is within the share's own interval."""
    kept = [n for n, value in enumerate(values) if value is not None]
    some = [float(values[n] or 0) for n in kept]
    clusters = [pictures.clusters[n] for n in kept]
    if metric.is_rate:
        return rate_interval([value > 0 for value in some], clusters)
    groups = pictures.groups(metric, kept)
    if metric.is_of_share and len(set(groups or [])) == 1:
        share = rate_interval([value > 0 for value in some], clusters)
        reached = metric.of_means(np.linspace(share.low, share.high, 1001))
        value = float(metric.of_means(np.array([share.value]))[0])
        return replace(share, value=value, low=float(reached.min()), high=float(reached.max()))
    return classwise_interval(some, groups, clusters, metric.of_means)


def by_class(metric: Metric, values: Sequence[float | None], pictures: Pictures) -> dict[str, Estimate]:
    """The value of every class that the metric is about."""
    estimates: dict[str, Estimate] = {}
    if metric.mean_over == "roles":
        return estimates
    for label in dict.fromkeys(pictures.labels):
        own = [value if pictures.labels[n] == label else None for n, value in enumerate(values)]
        if label and any(value is not None for value in own):
            estimates[label] = estimate(metric, own, pictures)
    return estimates


def summarise(
    metrics: Sequence[Metric],
    numbers: Mapping[str, Numbers],
    sets: Mapping[str, Mapping[str, Estimate]],
    pictures: Pictures,
) -> dict[str, Any]:
    """Metric → variant → the value of all and of every class, for `results.json`. `sets` has the values of the metrics
    that are of whole sets: variant → metric → value."""
    return {
        metric.name: {
            "higher_is_better": metric.higher_is_better,
            "is_rate": metric.is_rate,
            "variants": {
                variant: {
                    "all": (sets[variant].get(metric.name) or estimate(metric, mine[metric.name], pictures)).as_dict(),
                    "classes": {
                        label: own.as_dict() for label, own in by_class(metric, mine[metric.name], pictures).items()
                    },
                }
                for variant, mine in numbers.items()
            },
        }
        for metric in metrics
    }


def differences(metrics: Sequence[Metric], numbers: Mapping[str, Numbers], pictures: Pictures) -> list[dict[str, Any]]:
    """Every pair of variants in every metric that both have."""
    rows = []
    for first, second in combinations(numbers, 2):
        for metric in metrics:
            compared = difference(metric, numbers[first][metric.name], numbers[second][metric.name], pictures)
            if compared is not None:
                rows.append({"metric": metric.name, "from": first, "to": second, **compared})
    return rows


def difference(
    metric: Metric, before: Sequence[float | None], after: Sequence[float | None], pictures: Pictures
) -> dict[str, Any] | None:
    """`after − before` with its paired interval, and McNemar's test of a rate; None where no picture has both."""
    pairs = [
        (n, float(a), float(b))
        for n, (a, b) in enumerate(zip(before, after, strict=True))
        if a is not None and b is not None
    ]
    if not pairs:
        return None
    places, first, second = zip(*pairs, strict=True)
    clusters = [pictures.clusters[n] for n in places]
    if metric.is_rate:
        outcomes = [number > 0 for number in first], [number > 0 for number in second]
        estimated, test = rate_difference(*outcomes, clusters), asdict(mcnemar(*outcomes))
    else:
        estimated = paired_difference(first, second, pictures.groups(metric, places), clusters, metric.of_means)
        test = None
    return {"difference": estimated.as_dict(), "mcnemar": test}
