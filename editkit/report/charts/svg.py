"""SVG as text: elements, and charts that say in words what they show."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from editkit.report.charts.palette import resolved

Markup = str
FONT = 12
"""Size of the text in a chart, in its own units: charts are about as wide as the telephone that they must fit."""
EDGE = 16.0
"""Room around a chart that stands alone."""
LETTER = 0.56
"""Mean width of a letter, in font sizes: for room, not for looks."""


def element(name: str, *inside: Markup, **attributes: Any) -> Markup:
    """`<name class="..." stroke-width="...">inside</name>`; `inside` is markup, attributes are escaped."""
    words = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_value(value))}"
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{words}>{''.join(inside)}</{name}>" if inside else f"<{name}{words}/>"


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None, **more: Any) -> Markup:
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def tip(words: str) -> Markup:
    """What a mark says when it is pointed at."""
    return element("title", escape(words))


def chart(width: float, height: float, says: str, *inside: Markup) -> Markup:
    """A whole chart. `says` is read out in its place."""
    return element(
        "svg",
        *inside,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=says,
        class_="chart",
    )


def standalone(svg: Markup) -> Markup:
    """`chart` as a file of its own: with its colours, on its own ground, dark where the reader's screen is."""
    css = chart_css()
    dark = "".join(f"@media (prefers-color-scheme:dark){{{resolved(css, dark=True)}}}")
    head, rest = svg.split(">", 1)
    width, height = (float(side) for side in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)[0])
    box = {"x": -EDGE, "y": -EDGE, "width": width + 2 * EDGE, "height": height + 2 * EDGE}
    head = re.sub(r'viewBox="[^"]*"', f'viewBox="{" ".join(_value(number) for number in box.values())}"', head)
    ground = element("rect", class_="ground", **box)
    return f"{head}><style>{escape(resolved(css) + dark)}</style>{ground}{rest}\n"


def chart_css() -> str:
    return (files("editkit.report") / "template" / "charts.css").read_text(encoding="utf-8")


def room_for(words: list[str], least: float = 0, most: float = 400) -> float:
    """Width that the longest of `words` needs."""
    return min(most, max((len(word) for word in words), default=0) * FONT * LETTER + least)


def shortened(words: str, letters: int) -> str:
    return words if len(words) <= letters else words[: letters - 1] + "…"


def _value(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
