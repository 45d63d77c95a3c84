"""Points with intervals, joined in their order if they are a sweep: erasure against damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.report.charts.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame
from editkit.report.charts.labels import RADIUS, Mark, placed
from editkit.report.charts.palette import variant_class
from editkit.report.charts.scale import covering, shown
from editkit.report.charts.svg import Markup, chart, element, line

MANY, SMALL = 60, 3.0
"""From so many points on, the dots are smaller."""


@dataclass(frozen=True)
class Point:
    """A value on each axis, with intervals where they were measured."""

    name: str
    number: int
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    said: str | None = None
    """The name for the tip, where the point is not named in the plot."""


def scatter_chart(
    points: Sequence[Point],
    x_name: str,
    y_name: str,
    says: str,
    joined: Sequence[Point] = (),
    zero: bool = True,
    log: tuple[bool, bool] = (False, False),
    most: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """A line leads through the `joined` points in their order; `most` limits the axes, as 100 does a percentage."""
    xs = [value for one in points for value in (one.x, *(one.x_interval or ()))]
    ys = [value for one in points for value in (one.y, *(one.y_interval or ()))]
    x = covering(xs, LEFT, WIDTH - RIGHT, log[0], zero, most[0])
    y = covering(ys, HEIGHT - BOTTOM, TOP, log[1], zero, most[1])
    parts = [frame(x, y, x_name, y_name)]
    if joined:
        way = " ".join(f"{x(one.x):.1f},{y(one.y):.1f}" for one in joined)
        parts.append(element("polyline", points=way, class_="way"))
    marks = []
    for one in points:
        whiskers = []
        if one.x_interval:
            whiskers.append(line(x(one.x_interval[0]), y(one.y), x(one.x_interval[1]), y(one.y), "whisker"))
        if one.y_interval:
            whiskers.append(line(x(one.x), y(one.y_interval[0]), x(one.x), y(one.y_interval[1]), "whisker"))
        parts.append(element("g", *whiskers, class_=variant_class(one.number)) if whiskers else "")
        says_one = f"{one.said or one.name}: {x_name} {shown(one.x)}, {y_name} {shown(one.y)}"
        marks.append(Mark(x(one.x), y(one.y), one.name, one.number, says_one))
    return chart(WIDTH, HEIGHT, says, *parts, *placed(marks, x, y, RADIUS if len(points) < MANY else SMALL))
