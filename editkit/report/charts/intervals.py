"""A dot and its interval for every row and variant."""

from __future__ import annotations

from collections.abc import Sequence

from editkit.evaluation.statistics.intervals import Estimate
from editkit.report.charts.palette import variant_class
from editkit.report.charts.scale import Scale, covering, shown
from editkit.report.charts.svg import Markup, chart, element, line, room_for, shortened, text, tip

WIDTH, STEP, GAP, TOP, FOOT, LETTERS = 420.0, 13.0, 10.0, 6.0, 42.0, 22


def interval_chart(
    rows: Sequence[str], series: Sequence[tuple[str, int, Sequence[Estimate]]], axis: str, says: str
) -> Markup:
    """`series`: name and number of a variant, and an estimate for each row."""
    left = room_for([shortened(row, LETTERS) for row in rows], 14)
    group = STEP * len(series) + GAP
    bottom = TOP + group * len(rows)
    x = covering(
        [value for _, _, estimates in series for estimate in estimates for value in (estimate.low, estimate.high)],
        left,
        WIDTH - 14,
    )
    parts = []
    for value in x.ticks():
        parts.append(line(x(value), TOP, x(value), bottom, "axis" if value == 0 else "rule"))
        parts.append(text(x(value), bottom + 17, shown(value), "middle", "tick"))
    for j, row in enumerate(rows):
        top = TOP + j * group + GAP / 2
        parts.append(text(left - 10, top + STEP * len(series) / 2 + 4, shortened(row, LETTERS), "end", "label"))
        for i, (name, number, estimates) in enumerate(series):
            mark = _mark(estimates[j], x, top + (i + 0.5) * STEP, f"{name}, {row}: {said(estimates[j])}")
            parts.append(element("g", *mark, class_=variant_class(number)))
    parts.append(text(WIDTH - 14, bottom + 36, axis, "end", "name"))
    return chart(WIDTH, bottom + FOOT, says, *parts)


def said(estimate: Estimate) -> str:
    """The value, and its interval where there is more than one seed."""
    return f"{estimate.value:.3f}" + (f" [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.clusters > 1 else "")


def _mark(estimate: Estimate, x: Scale, y: float, says: str) -> list[Markup]:
    whisker = [line(x(estimate.low), y, x(estimate.high), y, "whisker")] if estimate.clusters > 1 else []
    return [tip(says), *whisker, element("circle", cx=x(estimate.value), cy=y, r=4.5, class_="dot")]
