"""Intervals and tests against independent references, and as theorems."""

from __future__ import annotations

import math
import random
from statistics import fmean

import numpy as np
import pytest

from editkit.evaluation.statistics.intervals import (
    classwise_interval,
    cluster_marks,
    expanded_tails,
    mcnemar,
    mean_interval,
    paired_difference,
    rate_difference,
    rate_interval,
    student_quantile,
)
from editkit.evaluation.statistics.rates import wilson


def numbers(seed: int, n: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(5, 2) for _ in range(n)]


def test_bootstrap_of_a_mean_agrees_with_the_t_interval() -> None:
    """For independent values the expanded percentile interval is Student's, up to the noise of 5000 resamples."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    for n in (12, 40, 400):
        values = numbers(n, n)
        estimate = mean_interval(values)
        low, high = stats.t.interval(0.95, n - 1, fmean(values), stats.sem(values))
        assert estimate.value == pytest.approx(fmean(values))
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.07 * (high - low))


def test_quantiles_of_students_t() -> None:
    """Tables: t(0.975) with 4, 7, 19 and 100 degrees of freedom."""
    for freedom, expected in ((4, 2.7764), (7, 2.3646), (19, 2.0930), (100, 1.9840)):
        assert student_quantile(0.975, freedom) == pytest.approx(expected, rel=0.005)
    low, high = expanded_tails(10**6)
    assert (low, high) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_twins_are_no_evidence() -> None:
    """Every value twice, in clusters of two, is worth what the values are worth once; without clusters, more."""
    values = numbers(1, 30)
    twice = [value for value in values for _ in range(2)]
    marks = [n for n in range(30) for _ in range(2)]
    once, clustered, naive = mean_interval(values), mean_interval(twice, marks), mean_interval(twice)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.8 * (once.high - once.low)
    assert clustered.clusters == 30 and clustered.count == 60


def test_intervals_cover() -> None:
    """Ten clusters with an effect of their own: 95 % of the intervals hold the truth; without clusters far fewer."""
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(100):
        effects = rng.normal(size=10).repeat(5) + 0.3 * rng.normal(size=50)
        marks = list(np.arange(10).repeat(5))
        with_clusters, without = mean_interval(list(effects), marks), mean_interval(list(effects))
        covered += with_clusters.low <= 0 <= with_clusters.high
        naive += without.low <= 0 <= without.high
    assert covered >= 89 and naive < 75


def test_intervals_are_seeded() -> None:
    values = numbers(2, 20)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_pairing_takes_out_what_both_share() -> None:
    shared = numbers(3, 50)
    after = [value + 0.1 + 0.01 * (n % 3) for n, value in enumerate(shared)]
    paired = paired_difference(shared, after)
    assert paired.low > 0.1 and paired.high < 0.12
    alone = mean_interval(shared)
    assert alone.high - alone.low > 0.5


def test_classwise_means() -> None:
    """A function of each class's mean, averaged over classes: not the function of the whole mean."""
    values, labels = [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]
    deviation = classwise_interval(values, labels, None, lambda means: np.abs(0.5 - means) / 0.5)
    assert deviation.value == 1.0
    assert classwise_interval(values, None, None, lambda means: np.abs(0.5 - means) / 0.5).value == 0.0


def test_a_rate_of_independent_pictures_has_wilsons_interval() -> None:
    outcomes = [n % 3 == 0 for n in range(60)]
    estimate = rate_interval(outcomes)
    assert (estimate.low, estimate.high) == pytest.approx(wilson(20 / 60, 60))
    all_alike = rate_interval([True] * 40, [n // 5 for n in range(40)])
    assert (all_alike.low, all_alike.high) == pytest.approx(wilson(1.0, 40))


def test_clusters_of_like_pictures_count_once() -> None:
    """Eight prompts of five pictures that always agree: the interval of about eight pictures, not of forty."""
    outcomes = [n // 5 < 3 for n in range(40)]
    estimate = rate_interval(outcomes, [n // 5 for n in range(40)])
    low, high = wilson(3 / 8, 40 / (5 * 39 / 35))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.high - estimate.low > 1.9 * (lambda ends: ends[1] - ends[0])(wilson(3 / 8, 40))


def test_mcnemar_against_an_independent_reference() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    for b, c in ((0, 0), (1, 0), (8, 2), (15, 15), (40, 22), (0, 20)):
        first = [True] * b + [False] * c + [True] * 7
        second = [False] * b + [True] * c + [True] * 7
        test = mcnemar(first, second)
        expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert (test.only_first, test.only_second) == (b, c)
        assert test.p == pytest.approx(expected)


def test_mcnemar_of_thousands() -> None:
    assert 0 < mcnemar([True] * 3000 + [False] * 2700, [False] * 3000 + [True] * 2700).p < 0.001


def test_no_difference_is_not_certainty() -> None:
    same = rate_difference([True] * 20, [True] * 20)
    assert same.value == 0 and same.low == pytest.approx(-wilson(0, 20)[1]) == pytest.approx(-same.high)
    opposite = rate_difference([False] * 20, [True] * 20)
    assert opposite.value == 1 and opposite.low == pytest.approx(1 - wilson(0, 20)[1]) and opposite.high == 1


def test_what_a_cluster_is() -> None:
    """Many prompts a class: the prompt. One prompt a class: the seed. One of either: the picture."""
    assert cluster_marks(["a", "a", "b"], ["p", "q", "r"], [1, 1, 2]) == ("prompt", ["p", "q", "r"])
    assert cluster_marks(["a", "a", "b"], ["p", "p", "r"], [1, 2, 1]) == ("seed", [1, 2, 1])
    assert cluster_marks(["a", "b"], ["p", "q"], [1, 1]) == ("picture", [0, 1])


def test_nothing_measured_is_no_number() -> None:
    assert math.isnan(mean_interval([]).value) and rate_interval([]).count == 0
    assert mean_interval([]).as_dict()["value"] is None
    assert mean_interval([2.0]).low == mean_interval([2.0]).high == 2.0
