"""Intervals and tests: how sure may one be of a mean, of a difference, of a success rate?

Pictures are not independent. Those of one prompt share what the prompt asks for, those of one seed share their noise.
Everything here therefore takes `clusters`, one mark a picture, and resamples or counts whole clusters.
`cluster_marks` chooses them:

- several prompts a class (a prompt file): they are a sample of what could have been asked, so a prompt is a cluster;
- one prompt a class (Imagenette's protocol: "an image of a church" with many seeds): the prompts are the protocol, only
  the noise is chance; a seed is a cluster, across all classes;
- one prompt a class and one seed: every picture is a cluster, there is nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from editkit.evaluation.statistics.rates import wilson

LEVEL = 0.95
SAMPLES = 5000
CHUNK = 1_000_000
"""Numbers that are drawn at a time."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        count: pictures behind it.
        clusters: independent groups of them; fewer than about ten make every interval a rough guess.
    """

    value: float
    low: float
    high: float
    count: int
    clusters: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Estimate:
        value, low, high = (math.nan if stored[name] is None else stored[name] for name in ("value", "low", "high"))
        return cls(value, low, high, stored["count"], stored["clusters"])


NOTHING = Estimate(math.nan, math.nan, math.nan, 0, 0)


def cluster_marks(
    labels: Sequence[Hashable], prompts: Sequence[str], seeds: Sequence[int]
) -> tuple[str, list[Hashable]]:
    """What a cluster is ("prompt", "seed" or "picture"), and the cluster of every picture. See the module."""
    asked: dict[Hashable, set[str]] = {}
    for label, prompt in zip(labels, prompts, strict=True):
        asked.setdefault(label, set()).add(prompt)
    if any(len(some) > 1 for some in asked.values()):
        return "prompt", list(prompts)
    if len(set(seeds)) > 1:
        return "seed", list(seeds)
    return "picture", list(range(len(prompts)))


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Estimate:
    """Mean with a 95 % bootstrap interval over clusters (Efron 1979; clusters: Davison & Hinkley 1997, §3.8)."""
    return classwise_interval(values, None, clusters, seed=seed)


def classwise_interval(
    values: Sequence[float],
    labels: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    of_means: Callable[[np.ndarray], np.ndarray] = lambda means: means,
    seed: int = 0,
) -> Estimate:
    """Mean over the classes of a function of each class's mean, with a bootstrap interval over clusters.

    Args:
        labels: the class of every value; None is one class.
        of_means: elementwise, on means of any shape.
    """
    if not len(values):
        return NOTHING
    value, drawn, groups = _bootstrap(values, labels, clusters, of_means, seed)
    return Estimate(value, *_ends(drawn, groups), len(values), groups)


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    labels: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    of_means: Callable[[np.ndarray], np.ndarray] = lambda means: means,
    seed: int = 0,
) -> Estimate:
    """`after − before` of what `classwise_interval` estimates, with a paired bootstrap interval: each resample takes
    the same pictures of both, so what they have in common (prompt, noise) falls out."""
    if not len(before):
        return NOTHING
    first, drawn_first, groups = _bootstrap(before, labels, clusters, of_means, seed)
    second, drawn_second, _ = _bootstrap(after, labels, clusters, of_means, seed)
    return Estimate(second - first, *_ends(drawn_second - drawn_first, groups), len(before), groups)


def part_interval(
    before: Sequence[float],
    middle: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Estimate:
    """How far of the way from `before` to `after` the mean of `middle` is, `(before − middle) / (before − after)`, with
    a paired bootstrap interval.

    It is no number where `before` and `after` have the same mean; such resamples say nothing and are left out. Where
    all pairs of `before` and `middle`, or of `middle` and `after`, differ alike, the bootstrap would claim to be
    certain: the interval then reaches as far as Wilson's does for none of `n`, as in `rate_difference`.

    >>> part_interval([1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]).value
    0.5
    """
    if not len(before):
        return NOTHING
    sides = [_bootstrap(side, None, clusters, lambda means: means, seed) for side in (before, middle, after)]
    (first, drawn_first, groups), (second, drawn_second, _), (third, drawn_third, _) = sides
    count, way = len(before), first - third
    if way == 0:
        return Estimate(math.nan, math.nan, math.nan, count, groups)
    value, ways = (first - second) / way, drawn_first - drawn_third
    low, high = _ends(((drawn_first - drawn_second)[ways != 0]) / ways[ways != 0], groups)
    steps = [{a - b for a, b in zip(*pair, strict=True)} for pair in ((before, middle), (middle, after))]
    if min(map(len, steps)) == 1:
        reach = wilson(0.0, count)[1] / abs(way)
        low, high = min(low, value - reach), max(high, value + reach)
    return Estimate(value, low, high, count, groups)


def rate_interval(outcomes: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """A success rate with a 95 % Wilson interval at the effective sample size.

    Clusters of like pictures are worth fewer pictures: `n` is divided by the design effect, the ratio of the variance
    between clusters to the binomial one, at least 1 (Kish 1965; with Wilson's interval: Dean & Pagano 2015). Where all
    or none succeed there is no variance to measure, and `n` stays as it is (NCHS data presentation standards, 2017).
    """
    if not len(outcomes):
        return NOTHING
    places = _numbered(range(len(outcomes)) if clusters is None else clusters)
    sums, counts = np.bincount(places, [float(outcome) for outcome in outcomes]), np.bincount(places)
    n, groups = len(outcomes), len(sums)
    share = sums.sum() / n
    effect = 1.0
    if 0 < share < 1 and groups > 1:
        variance = groups / (groups - 1) * ((sums - share * counts) ** 2).sum() / n**2
        effect = max(1.0, variance / (share * (1 - share) / (n - 1)))
    return Estimate(float(share), *wilson(share, n / effect), n, groups)


def rate_difference(
    before: Sequence[bool], after: Sequence[bool], clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> Estimate:
    """`paired_difference` of two success rates on the same pictures.

    Where all pairs differ alike (none does, or all do) there is nothing to resample, and the bootstrap would claim to
    be certain. The interval then reaches as far as Wilson's does for none of `n`.
    """
    difference = paired_difference(
        [float(outcome) for outcome in before], [float(outcome) for outcome in after], None, clusters, seed=seed
    )
    if difference.count and len({b - a for a, b in zip(before, after, strict=True)}) == 1:
        reach = wilson(0.0, difference.count)[1]
        return replace(difference, low=max(-1.0, difference.value - reach), high=min(1.0, difference.value + reach))
    return difference


@dataclass(frozen=True)
class McNemar:
    """How often only the first and only the second succeeded, and the exact p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact two-sided test whether two success rates on the same pictures differ (McNemar 1947).

    Given `n` discordant pairs, either side is a Binomial(n, ½). Pairs count as independent: where clusters matter, the
    interval of `paired_difference` is the one to believe.
    """
    pairs = list(zip(first, second, strict=True))
    b = sum(this and not other for this, other in pairs)
    c = sum(other and not this for this, other in pairs)
    n, term, total = b + c, 1, 0
    for i in range(min(b, c) + 1):
        total += term
        term = term * (n - i) // (i + 1)
    return McNemar(b, c, min(1.0, 2 * total / 2**n))


def expanded_tails(groups: int, level: float = LEVEL) -> tuple[float, float]:
    """Quantiles of a percentile interval that is not too narrow for few clusters (Hesterberg 2015, §3.3): the
    bootstrap's variance is too small by (n − 1)/n, and Student's t has longer tails than the normal distribution."""
    if groups < 2:
        return 0.0, 1.0
    normal = NormalDist()
    tail = normal.cdf(-math.sqrt(groups / (groups - 1)) * student_quantile((1 + level) / 2, groups - 1))
    return tail, 1 - tail


def student_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t from the normal one (Abramowitz & Stegun 26.7.5); 1 % off at 3 degrees of freedom."""
    z, v = NormalDist().inv_cdf(p), freedom
    z3, z5, z7 = z**3, z**5, z**7
    first, second = (z3 + z) / 4, (5 * z5 + 16 * z3 + 3 * z) / 96
    return z + first / v + second / v**2 + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / 384 / v**3


def _bootstrap(
    values: Sequence[float],
    labels: Sequence[Hashable] | None,
    clusters: Sequence[Hashable] | None,
    of_means: Callable[[np.ndarray], np.ndarray],
    seed: int,
) -> tuple[float, np.ndarray, int]:
    """The value, its resamples, and the number of clusters."""
    groups = _numbered(range(len(values)) if clusters is None else clusters)
    classes = _numbered([0] * len(values) if labels is None else labels)
    shape = (int(groups.max()) + 1, int(classes.max()) + 1)
    cells = groups * shape[1] + classes
    sums = np.bincount(cells, np.asarray(values, dtype=np.float64), math.prod(shape)).reshape(shape)
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape).astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a class none of whose clusters is in a resample
            return np.nanmean(of_means((weights @ sums) / (weights @ counts)), axis=1)

    drawn = np.concatenate([statistic(some) for some in _resamples(shape[0], seed)])
    return float(statistic(np.ones((1, shape[0])))[0]), drawn, shape[0]


def _ends(drawn: np.ndarray, groups: int) -> tuple[float, float]:
    low, high = np.quantile(drawn, expanded_tails(groups))
    return float(low), float(high)


def _numbered(marks: Iterable[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(mark, len(numbers)) for mark in marks])


def _resamples(groups: int, seed: int) -> Iterator[np.ndarray]:
    """How often each cluster is in each of `SAMPLES` resamples, a part `(resamples, clusters)` at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // groups)
    for start in range(0, SAMPLES, rows):
        count = min(rows, SAMPLES - start)
        chosen = rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        yield np.bincount(chosen.ravel(), minlength=count * groups).reshape(count, groups).astype(np.float64)
