"""Horizontal bars: one group a word, one bar a variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.report.charts.palette import variant_class
from editkit.report.charts.scale import Scale, covering, shown
from editkit.report.charts.svg import Markup, chart, element, line, room_for, shortened, text, tip

WIDTH, THICK, GAP, TOP, VALUE_ROOM, LETTERS = 420.0, 11.0, 9.0, 4.0, 48.0, 20


@dataclass(frozen=True)
class Bars:
    """The bars of one variant. `number` gives its colour; `mean`, when known, is marked by a line."""

    name: str
    number: int
    values: Sequence[float]
    mean: float | None = None


def bar_chart(words: Sequence[str], series: Sequence[Bars], says: str) -> Markup:
    """`series[i].values[j]` is the bar of `words[j]`."""
    left = room_for([shortened(word, LETTERS) for word in words], 12)
    group = THICK * len(series) + GAP
    bottom = TOP + group * len(words)
    x = covering([value for bars in series for value in bars.values], left, WIDTH - VALUE_ROOM)
    parts = [
        line(left, TOP, left, bottom, "axis"),
        *(_mean(bars, x, bottom) for bars in series if bars.mean is not None),
    ]
    for j, word in enumerate(words):
        top = TOP + j * group + GAP / 2
        middle = top + THICK * len(series) / 2 + 4
        parts.append(text(left - 8, middle, shortened(word, LETTERS), "end", "label"))
        for i, bars in enumerate(series):
            parts.append(_bar(x(0.0), x(bars.values[j]), top + i * THICK, word, bars, bars.values[j], group > 18))
    return chart(WIDTH, bottom + TOP, says, *parts)


def _mean(bars: Bars, x: Scale, bottom: float) -> Markup:
    at = x(bars.mean or 0.0)
    says = tip(f"{bars.name}: mean of all words {shown(bars.mean or 0.0)}")
    return element("line", says, x1=at, x2=at, y1=TOP, y2=bottom, class_=f"mean {variant_class(bars.number)}")


def _bar(left: float, right: float, top: float, word: str, bars: Bars, value: float, roomy: bool) -> Markup:
    mark = element(
        "rect", tip(f"{bars.name}, {word}: {shown(value)}"), x=left, y=top, width=max(1.0, right - left),
        height=THICK - 2, rx=2, class_=f"bar {variant_class(bars.number)}",
    )  # fmt: skip
    return mark + (text(max(left, right) + 5, top + THICK - 2.5, shown(value), class_="tick halo") if roomy else "")
