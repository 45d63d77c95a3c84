"""What erasing each concept does to every other: a matrix of shaded cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

from editkit.report.charts.scale import shown
from editkit.report.charts.svg import FONT, LETTER, Markup, chart, element, room_for, shortened, text, tip

CELL, LETTERS, MARGIN, NUMBERED_UP_TO = 34.0, 18, 8.0, 16


def matrix_chart(concepts: Sequence[str], values: Sequence[Sequence[float]], says: str) -> Markup:
    """`values[i][j]`: what erasing concept `i` does to concept `j`; shaded by size, the diagonal framed."""
    names = [shortened(concept, LETTERS) for concept in concepts]
    left, n = room_for(names, 26), len(concepts)
    top = max(len(name) for name in names) * FONT * LETTER * math.sin(math.radians(50)) + 34
    reach = max(len(name) for name in names) * FONT * LETTER * math.cos(math.radians(50))
    off = [abs(values[i][j]) for i in range(n) for j in range(n) if i != j and math.isfinite(values[i][j])]
    most = max(off, default=0.0) or 1.0
    parts = [text(0, top - 6, "erased ↓", class_="name"), text(left, 12, "what it does to →", class_="name")]
    for i, name in enumerate(names):
        x, y = left + (i + 0.5) * CELL, top + (i + 0.5) * CELL
        parts.append(text(left - 8, y + 4, name, "end", "label"))
        parts.append(text(x + 4, top - 7, name, "start", "label", transform=f"rotate(-50 {x + 4:.1f} {top - 7:.1f})"))
    for i in range(n):
        for j in range(n):
            parts.append(_cell(left + j * CELL, top + i * CELL, values[i][j], most, concepts[i], concepts[j], n))
    return chart(max(left + n * CELL + max(MARGIN, reach - CELL / 2), 240), top + n * CELL + MARGIN, says, *parts)


def _cell(x: float, y: float, value: float, most: float, erased: str, other: str, n: int) -> Markup:
    share = min(1.0, abs(value) / most) if math.isfinite(value) else 0.0
    place = {"x": x + 1, "y": y + 1, "width": CELL - 2, "height": CELL - 2, "rx": 3}
    heat = f"heat{' less' if value < 0 else ''}"
    says = tip(f"erasing {erased}, {other}: {shown(value) if math.isfinite(value) else 'not known'}")
    parts = [says, element("rect", class_="cell", **place)]
    parts.append(element("rect", class_=heat, fill_opacity=round(0.9 * share, 3), **place))
    if erased == other:
        parts.append(element("rect", class_="own", **place))
    if n <= NUMBERED_UP_TO and math.isfinite(value):
        parts.append(text(x + CELL / 2, y + CELL / 2 + 3.5, _brief(value), "middle", "inside"))
    return element("g", *parts)


def _brief(value: float) -> str:
    """At most four characters: ".034", "−.12", "1.2"."""
    if abs(value) < 0.0005:
        return "0"
    digits = f"{abs(value):.3f}" if abs(value) < 0.0995 else f"{abs(value):.2f}"
    return ("−" if value < 0 else "") + digits.removeprefix("0")
