"""The sensitivity spectrum: every word's damage in order, with a few words named (AP Fig. 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from editkit.report.charts.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame
from editkit.report.charts.labels import Mark, placed
from editkit.report.charts.palette import variant_class
from editkit.report.charts.scale import Scale, covering, shown
from editkit.report.charts.svg import Markup, chart, element, tip


@dataclass(frozen=True)
class Spectrum:
    """Damage of every word by one variant, and of the words to name in the plot."""

    name: str
    number: int
    damage: Sequence[float]
    named: Mapping[str, float]


def ranked_chart(spectra: Sequence[Spectrum], says: str) -> Markup:
    """Rank across, damage up on a logarithmic axis. Words without damage are not on it."""
    values = [value for spectrum in spectra for value in (*spectrum.damage, *spectrum.named.values())]
    top_value = max(values, default=1.0)
    floor = top_value * 1e-4  # what lies below is nothing beside the worst, and would flatten the rest
    y = covering([max(value, floor) for value in values], HEIGHT - BOTTOM, TOP, log=True)
    most = max((len(spectrum.damage) for spectrum in spectra), default=1)
    x = Scale(0, max(most, 1) * 1.04, LEFT, WIDTH - RIGHT)
    lines, marks = [], []
    for spectrum in spectra:
        ordered = sorted(spectrum.damage, reverse=True)
        points = " ".join(f"{x(n + 1):.1f},{y(value):.1f}" for n, value in enumerate(ordered))
        lines.append(
            element("polyline", tip(spectrum.name), points=points, class_=f"curve {variant_class(spectrum.number)}")
        )
        for word, value in spectrum.named.items():
            rank = sum(other > value for other in ordered) + 1
            marks.append(
                Mark(x(rank), y(value), word, spectrum.number, f"{word} under {spectrum.name}: {shown(value)}")
            )
    body = [frame(x, y, "words, most damaged first", "damage"), *lines, *placed(marks, x, y)]
    return chart(WIDTH, HEIGHT, says, *body)
