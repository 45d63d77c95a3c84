"""Erasure against damage: the curve of a sweep."""

from __future__ import annotations

from editkit.report.charts.scale import shown
from editkit.report.charts.scatter import Point, scatter_chart
from editkit.report.comparison import Comparison
from editkit.report.plots import Figure
from editkit.report.shares import count_shares

LOG_FROM = 20.0
"""How many times the least damage the largest must be for a logarithmic axis."""


def pareto_figures(comparison: Comparison, first: int, joined: bool) -> list[Figure]:
    """The variants from number `first` on as points: in closed form, and by the judge where there is one.

    `joined` draws a line through them in their order.
    """
    found = [_closed_form(comparison, first, joined)]
    if comparison.detections:
        found.append(_measured(comparison, first, joined))
    return [one for one in found if one is not None]


def _closed_form(comparison: Comparison, first: int, joined: bool) -> Figure | None:
    points = []
    for n, one in enumerate(comparison.variants):
        damage, residual = comparison.damage[n], one.record.get("figures", {}).get("erasure_residual")
        if n >= first and damage is not None and residual is not None:
            points.append(Point(_label(one.name), n, sum(damage.values) / len(damage.values), 100 * (1 - residual)))
    if not points:
        return None
    xs = [one.x for one in points]
    log = min(xs) > 0 and max(xs) / min(xs) > LOG_FROM
    says = "Erasure against damage in closed form. " + _spoken(points, "mean damage", "per cent erased")
    return Figure(
        "In closed form",
        "How far the concept moved to its guide, against what the other words lose. Up and to the left is better.",
        scatter_chart(points, "mean damage of the other words", "erased, %", says, joined, False, (log, False), (None, 100)),
        (),
        ("edit", "erased, %", "mean damage"),
        tuple((comparison.variants[one.number].name, shown(one.y), shown(one.x)) for one in points),
    )


def _measured(comparison: Comparison, first: int, joined: bool) -> Figure | None:
    shares = count_shares(comparison)
    points = []
    for n, one in enumerate(comparison.variants):
        esr, psr = shares[n].esr1, shares[n].psr1
        if n >= first and esr.count and psr.count:
            (low, high), (least, most) = psr.interval, esr.interval
            lost = 100 * (1 - psr.value)
            points.append(Point(
                _label(one.name), n, lost, 100 * esr.value, (100 * (1 - high), 100 * (1 - low)), (100 * least, 100 * most)
            ))  # fmt: skip
    if not points:
        return None
    says = "Erasure against damage by the judge. " + _spoken(points, "per cent of others lost", "ESR-1 in per cent")
    rows = tuple(
        (comparison.variants[one.number].name, str(shares[one.number].esr1), str(shares[one.number].psr1))
        for one in points
    )
    return Figure(
        "By the judge",
        "Share of pictures in which the concept is gone, against the share of the others' that are lost, with 95 % "
        "intervals. Up and to the left is better.",
        scatter_chart(points, "others lost, %: 100 − PSR-1", "concept gone, %: ESR-1", says, joined, most=(100, 100)),
        (),
        ("edit", "ESR-1", "PSR-1"),
        rows,
    )


def _label(name: str) -> str:
    """`epochs=3` → 3 where one option is swept; the chart's title says which."""
    return name if ", " in name else name.rpartition("=")[2]


def _spoken(points: list[Point], x: str, y: str) -> str:
    return "; ".join(f"{one.name}: {shown(one.y)} {y}, {shown(one.x)} {x}" for one in points)
