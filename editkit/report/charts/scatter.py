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
    xs = [value for point in points for value in (point.x, *(point.x_interval or ()))]
    ys = [value for point in points for value in (point.y, *(point.y_interval or ()))]
    x = covering(xs, LEFT, WIDTH - RIGHT, log[0], zero, most[0])
    y = covering(ys, HEIGHT - BOTTOM, TOP, log[1], zero, most[1])
    parts = [frame(x, y, x_name, y_name)]
    if joined:
        way = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in joined)
        parts.append(element("polyline", points=way, class_="way"))
    marks = []
    for point in points:
        whiskers = []
        if point.x_interval:
            whiskers.append(line(x(point.x_interval[0]), y(point.y), x(point.x_interval[1]), y(point.y), "whisker"))
        if point.y_interval:
            whiskers.append(line(x(point.x), y(point.y_interval[0]), x(point.x), y(point.y_interval[1]), "whisker"))
        parts.append(element("g", *whiskers, class_=variant_class(point.number)) if whiskers else "")
        says_one = f"{point.said or point.name}: {x_name} {shown(point.x)}, {y_name} {shown(point.y)}"
        marks.append(Mark(x(point.x), y(point.y), point.name, point.number, says_one))
    return chart(WIDTH, HEIGHT, says, *parts, *placed(marks, x, y, RADIUS if len(points) < MANY else SMALL))
