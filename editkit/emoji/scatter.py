"""A plane of two rates with their intervals, as SVG that is read in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from editkit.evaluation.statistics.intervals import Estimate

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 480, 64, 16, 24, 52
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.axis { stroke: #999; fill: none } .grid { stroke: #ddd }
.theirs { fill: #8a8f98; stroke: #8a8f98 } .ours { fill: #0b7a75; stroke: #0b7a75 }
text.ours { font-weight: 600; stroke: none } text.theirs { stroke: none }
.interval { stroke-width: 1; opacity: .45 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .grid { stroke: #444 } .ours { fill: #4fd1c5; stroke: #4fd1c5 }
}
"""


@dataclass(frozen=True)
class Point:
    """A method: both rates, and whether it is this project's own."""

    name: str
    x: Estimate
    y: Estimate
    is_ours: bool


def scatter(points: Sequence[Point], along: str, up: str) -> str:
    """Crosses are 95 % intervals.

    >>> rate = Estimate(0.5, 0.4, 0.6, 10, 10)
    >>> drawn = scatter([Point("UCE", rate, rate, True)], "kept", "brought back")
    >>> drawn.count("<circle"), ">UCE</text>" in drawn
    (1, True)
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(up)} '
        f'over {escape(along)}"><style>{STYLE}</style>'
    ]
    for percent in range(0, 101, 20):
        x, y = _x(percent / 100), _y(percent / 100)
        parts += [
            f'<path class="grid" d="M{x:.1f} {_y(1):.1f}V{_y(0):.1f}M{_x(0):.1f} {y:.1f}H{_x(1):.1f}"/>',
            f'<text x="{x:.1f}" y="{HEIGHT - 30}" text-anchor="middle">{percent}</text>',
            f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>',
        ]
    parts += [
        f'<text x="{_x(0.5):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(along)}</text>',
        f'<text transform="translate(16 {_y(0.5):.1f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>',
    ]
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: point.y.value):
        parts.append(_drawn(point, taken))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(point: Point, taken: list[tuple[float, float]]) -> str:
    kind, x, y = "ours" if point.is_ours else "theirs", _x(point.x.value), _y(point.y.value)
    cross = (
        f"M{_x(point.x.low):.1f} {y:.1f}H{_x(point.x.high):.1f}M{x:.1f} {_y(point.y.low):.1f}V{_y(point.y.high):.1f}"
    )
    left = x > _x(0.8)
    at_x, at_y = x + (-9 if left else 9), y - 6
    while any(abs(at_x - other) < 90 and abs(at_y - above) < 15 for other, above in taken):
        at_y -= 15  # above a name that is there
    taken.append((at_x, at_y))
    return (
        f'<path class="interval {kind}" d="{cross}"/><circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        f'<text class="{kind}" x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{"end" if left else "start"}">'
        f"{escape(point.name)}</text>"
    )


def _x(rate: float) -> float:
    return LEFT + rate * (WIDTH - LEFT - RIGHT)


def _y(rate: float) -> float:
    return HEIGHT - BOTTOM - rate * (HEIGHT - TOP - BOTTOM)
