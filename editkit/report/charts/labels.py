"""Dots with names that do not lie on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.report.charts.palette import variant_class
from editkit.report.charts.scale import Scale
from editkit.report.charts.svg import FONT, LETTER, Markup, element, text, tip

RADIUS = 4.5
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
PLACES = ((6, -8, "start"), (10, 4, "start"), (0, -10, "middle"), (-6, -8, "end"), (-10, 4, "end"), (6, 17, "start"),
          (0, 19, "middle"), (-6, 17, "end"))  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A dot at a place in the chart, its name, the variant that colours it, and what it says when pointed at."""

    x: float
    y: float
    name: str
    number: int
    says: str


def placed(marks: Sequence[Mark], x: Scale, y: Scale, radius: float = RADIUS) -> list[Markup]:
    """All dots, and their names at the first place around them that is free; a name without a place is left to the
    dot's tip."""
    taken: list[Box] = [(mark.x - radius, mark.y - radius, mark.x + radius, mark.y + radius) for mark in marks]
    whole = (x.start, min(y.start, y.stop) - 1.5 * FONT, x.stop + 14, max(y.start, y.stop))
    dots, names = [], []
    for mark in marks:
        dots.append(
            element(
                "circle", tip(mark.says), cx=mark.x, cy=mark.y, r=radius, class_=f"dot {variant_class(mark.number)}"
            )
        )
        for dx, dy, anchor in PLACES if mark.name else ():
            box = _box(mark.x + dx, mark.y + dy, mark.name, anchor)
            if _inside(box, whole) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                names.append(text(mark.x + dx, mark.y + dy, mark.name, anchor, "label halo"))
                break
    return [*dots, *names]


def _box(x: float, y: float, words: str, anchor: str) -> Box:
    width = len(words) * FONT * LETTER
    left = x - {"start": 0, "middle": 0.5, "end": 1}[anchor] * width
    return left, y - FONT * 0.8, left + width, y + FONT * 0.25


def _inside(box: Box, whole: Box) -> bool:
    return box[0] >= whole[0] and box[1] >= whole[1] and box[2] <= whole[2] and box[3] <= whole[3]


def _meet(first: Box, other: Box) -> bool:
    return first[0] < other[2] and other[0] < first[2] and first[1] < other[3] and other[1] < first[3]
