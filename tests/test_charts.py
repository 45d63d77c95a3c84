"""Charts as SVG: well formed, to scale, said in words, and names that do not lie on each other."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import strategies as st

from editkit.evaluation.statistics.intervals import Estimate
from editkit.report.charts.bars import Bars, bar_chart
from editkit.report.charts.intervals import interval_chart
from editkit.report.charts.labels import Mark, placed
from editkit.report.charts.matrix import matrix_chart
from editkit.report.charts.network import network_chart, strongest
from editkit.report.charts.palette import NAMED, VARIANTS
from editkit.report.charts.ranked import Spectrum, ranked_chart
from editkit.report.charts.scale import Scale, covering
from editkit.report.charts.scatter import Point, scatter_chart
from editkit.report.charts.svg import FONT, LETTER, standalone
from tests.cases import forall

NASTY = "a <b>\"dog\"</b> & 'co'"


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    return root


def all_of(root: ElementTree.Element, tag: str, kind: str = "") -> list[ElementTree.Element]:
    elements = root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return [element for element in elements if kind in element.get("class", "").split() or not kind]


def test_bars_are_to_scale() -> None:
    root = parsed(bar_chart(["dog", NASTY], [Bars("uce", 1, [0.4, 0.1], mean=0.2), Bars("rece", 2, [0.2, 0.0])], NASTY))
    widths = [float(bar.attrib["width"]) for bar in all_of(root, "rect", "bar")]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01) and widths[0] == pytest.approx(4 * widths[2], rel=0.01)
    assert [bar.get("class") for bar in all_of(root, "rect")] == ["bar v1", "bar v2", "bar v1", "bar v2"]
    assert root.attrib["aria-label"] == NASTY
    assert len(all_of(root, "line", "mean")) == 1
    tips = [tip.text for tip in all_of(root, "title")]
    assert "uce, dog: 0.4" in tips and f"rece, {NASTY}: 0" in tips


def test_points_are_where_their_values_are() -> None:
    points = [Point("a", 1, 1, 10, (0.5, 2)), Point("b", 2, 2, 20), Point("c", 3, 3, 30)]
    root = parsed(scatter_chart(points, "x", "y", "says", joined=points))
    xs, ys = ([float(dot.attrib[key]) for dot in all_of(root, "circle")] for key in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.1) and xs[0] < xs[1]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.1) and ys[0] > ys[1]
    assert len(all_of(root, "line", "whisker")) == 1 and len(all_of(root, "polyline", "way")) == 1


def test_logarithmic_axis() -> None:
    scale = covering([0.003, 0.7], 0, 300, log=True)
    assert (scale.low, scale.high) == (pytest.approx(0.001), pytest.approx(1))
    assert scale(0.01) == pytest.approx(100) and scale(0.1) == pytest.approx(200)
    assert scale.ticks() == pytest.approx([0.001, 0.01, 0.1, 1])


@forall(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_even_ticks(low: float, spread: float) -> None:
    scale = Scale(low, low + spread, 0, 100)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 11 or spread < 1e-9 * abs(low)
    slack = 1e-6 * spread + 2 * math.ulp(abs(low) + spread)
    assert all(low - slack <= tick <= low + spread + slack for tick in ticks)


@forall(
    st.lists(st.tuples(st.floats(60, 380), st.floats(30, 250), st.text("abcdef", min_size=1, max_size=12)), max_size=30)
)
def test_names_do_not_lie_on_each_other(places: list[tuple[float, float, str]]) -> None:
    marks = [Mark(x, y, name, 1, name) for x, y, name in places]
    drawn = [ElementTree.fromstring(element) for element in placed(marks, Scale(0, 1, 50, 400), Scale(0, 1, 270, 20))]
    boxes = []
    for label in (element for element in drawn if element.tag == "text"):
        width = len(label.text or "") * FONT * LETTER
        left = float(label.attrib["x"]) - {"start": 0, "middle": width / 2, "end": width}[label.attrib["text-anchor"]]
        boxes.append(
            (left, float(label.attrib["y"]) - FONT * 0.8, left + width, float(label.attrib["y"]) + FONT * 0.25)
        )
    assert sum(element.tag == "circle" for element in drawn) == len(marks), "every dot is drawn"
    for n, a in enumerate(boxes):
        for b in boxes[:n]:
            assert a[2] <= b[0] + 0.1 or b[2] <= a[0] + 0.1 or a[3] <= b[1] + 0.1 or b[3] <= a[1] + 0.1


def test_spectrum_is_in_order() -> None:
    spectrum = Spectrum("uce", 1, [0.1, 0.4, 0.0, 0.2], {"church": 0.9, "dog": 0.2})
    (curve,) = all_of(parsed(ranked_chart([spectrum], "says")), "polyline")
    ys = [float(pair.split(",")[1]) for pair in curve.attrib["points"].split()]
    assert ys == sorted(ys) and len(ys) == 4, "down the page is less damage"


def test_intervals() -> None:
    rows = [("uce", 1, [Estimate(0.5, 0.2, 0.9, 8, 8), Estimate(0.0, 0.0, 0.0, 1, 1)])]
    root = parsed(interval_chart(["a church", NASTY], rows, "δ", "says"))
    (first, second) = all_of(root, "circle")
    whiskers = all_of(root, "line", "whisker")
    assert float(whiskers[0].attrib["x1"]) < float(first.attrib["cx"]) < float(whiskers[0].attrib["x2"])
    assert len(whiskers) == 1, "one seed has no interval"
    assert float(second.attrib["cx"]) < float(first.attrib["cx"])
    assert "uce, a church: 0.500 [0.200, 0.900]" in [tip.text for tip in all_of(root, "title")]


def test_matrix_and_network() -> None:
    names, values = ["church", "house", NASTY], [[0.9, 0.4, 0.1], [0.2, 0.8, 0.0], [-0.1, 0.05, 0.7]]
    root = parsed(matrix_chart(names, values, "says"))
    shades = [float(cell.attrib["fill-opacity"]) for cell in all_of(root, "rect", "heat")]
    assert shades[0] == 0.9 and shades[1] == 0.9 and shades[3] == pytest.approx(0.45), "by the largest off the diagonal"
    assert len(all_of(root, "rect", "less")) == 1 and len(all_of(root, "rect", "own")) == 3
    assert strongest(values, 1) == [(0, 1, 0.4), (1, 0, 0.2), (2, 1, 0.05)]
    graph = network_chart(names, values, "says")
    assert len(all_of(parsed(graph), "circle", "node")) == 3 and graph == network_chart(names, values, "says")
    assert len(all_of(parsed(graph), "polygon", "arrow")) == len(strongest(values))


def test_a_chart_stands_alone() -> None:
    svg = standalone(scatter_chart([Point("a", 1, 1, 1)], "x", "y", "says"))
    parsed(svg)
    assert "var(" not in svg and VARIANTS[1][0] in svg and VARIANTS[1][1] in svg and "prefers-color-scheme:dark" in svg


@pytest.mark.parametrize("name", ["ink", "soft", "accent", "good", "bad", *(f"v{n}" for n in range(len(VARIANTS)))])
def test_colours_stand_out_from_the_page(name: str) -> None:
    """Contrast of WCAG 2: 4.5 for what text is drawn in, 3 for marks."""

    def light(colour: str) -> float:
        parts = [int(digits, 16) / 255 for digits in re.findall("..", colour[1:])]
        r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for dark in (False, True):
        for ground in ("page", "card"):
            pair = sorted((light(NAMED[name][dark]), light(NAMED[ground][dark])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= (3 if name.startswith("v") else 4.5), (name, ground, dark)
