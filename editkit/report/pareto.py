"""Erasure against damage: the curve of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from editkit.report.charts.scale import shown
from editkit.report.charts.scatter import Point, scatter_chart
from editkit.report.comparison import Comparison
from editkit.report.plots import Figure
from editkit.report.shares import count_shares, percent

LOG_FROM = 20.0
"""How many times the least damage the largest must be for a logarithmic axis."""


def pareto_figures(comparison: Comparison, first: int, swept: Sequence[str]) -> list[Figure]:
    """All variants as points: in closed form, and by the judge where there is one.

    Those from number `first` on are the sweep of the options `swept`; of a single one they are joined in their order.
    """
    figures = [_closed_form(comparison, first, swept)]
    if comparison.detections:
        figures.append(_measured(comparison, first, swept))
    return [figure for figure in figures if figure is not None]


def _closed_form(comparison: Comparison, first: int, swept: Sequence[str]) -> Figure | None:
    points = []
    for n, variant in enumerate(comparison.variants):
        damage, residual = comparison.damage[n], variant.record.get("figures", {}).get("erasure_residual")
        if damage is not None and residual is not None:
            points.append(Point(_label(variant.name), n, sum(damage.values) / len(damage.values), 100 * (1 - residual)))
    if not points:
        return None
    xs = [point.x for point in points]
    log = min(xs) > 0 and max(xs) / min(xs) > LOG_FROM
    says = "Erasure against damage in closed form. " + _spoken(points, "mean damage", "per cent erased")
    return Figure(
        "In closed form",
        "How far the concept moved to its guide, against what the other words lose. Up and to the left is "
        f"better. {_labels(swept)}",
        scatter_chart(
            points,
            "mean damage of the other words",
            "erased, %",
            says,
            _joined(points, first, swept),
            False,
            (log, False),
            (None, 100),
        ),
        (),
        ("edit", "erased, %", "mean damage"),
        tuple((comparison.variants[point.number].name, shown(point.y), shown(point.x)) for point in points),
    )


def _measured(comparison: Comparison, first: int, swept: Sequence[str]) -> Figure | None:
    shares = count_shares(comparison)
    points = []
    for n, variant in enumerate(comparison.variants):
        esr, psr = shares[n].esr1, shares[n].psr1
        if esr.count and psr.count:
            x, across = 100 * (1 - psr.value), (100 * (1 - psr.high), 100 * (1 - psr.low))
            points.append(Point(_label(variant.name), n, x, 100 * esr.value, across, (100 * esr.low, 100 * esr.high)))
    if not points:
        return None
    says = "Erasure against damage by the judge. " + _spoken(points, "per cent of others lost", "ESR-1 in per cent")
    rows = tuple(
        (comparison.variants[point.number].name, percent(shares[point.number].esr1), percent(shares[point.number].psr1))
        for point in points
    )
    return Figure(
        "By the judge",
        "Share of pictures in which the concept is gone, against the share of the others' that are lost, with 95 % "
        "intervals. Up and to the left is better. " + _labels(swept),
        scatter_chart(
            points,
            "others lost, %: 100 − PSR-1",
            "concept gone, %: ESR-1",
            says,
            _joined(points, first, swept),
            most=(100, 100),
        ),
        (),
        ("edit", "ESR-1", "PSR-1"),
        rows,
    )


def _label(name: str) -> str:
    """`epochs=3` → 3 where one option is swept; the text beside the chart says which."""
    return name if ", " in name else name.rpartition("=")[2]


def _labels(swept: Sequence[str]) -> str:
    return f"The labels are the values of {swept[0]}." if len(swept) == 1 else ""


def _joined(points: Sequence[Point], first: int, swept: Sequence[str]) -> list[Point]:
    return [point for point in points if point.number >= first] if len(swept) == 1 else []


def _spoken(points: list[Point], x: str, y: str) -> str:
    return "; ".join(f"{point.name}: {shown(point.y)} {y}, {shown(point.x)} {x}" for point in points)
