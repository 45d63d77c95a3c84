"""The frame that charts with two axes share."""

from __future__ import annotations

from editkit.report.charts.scale import Scale, shown
from editkit.report.charts.svg import Markup, element, line, text

WIDTH, HEIGHT = 420.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 26.0, 46.0


def frame(x: Scale, y: Scale, x_name: str, y_name: str, x_ticks: bool = True) -> Markup:
    """Grid lines, tick labels and the names of both axes; that of y stands above it, where it can be read."""
    parts = [text(0, 12, y_name, class_="name")]
    left, right, top, bottom = x.start, x.stop, y.stop, y.start
    for value in y.ticks():
        parts += [
            line(left, y(value), right, y(value), "rule"),
            text(left - 8, y(value) + 4, shown(value), "end", "tick"),
        ]
    for value in x.ticks() if x_ticks else ():
        parts += [
            line(x(value), top, x(value), bottom, "rule"),
            text(x(value), bottom + 17, shown(value), "middle", "tick"),
        ]
    parts += [line(left, bottom, right, bottom, "axis"), text(right, bottom + 37, x_name, "end", "name")]
    return element("g", *parts, aria_hidden="true")
