"""The concept graph: who suffers when a concept is erased."""

from __future__ import annotations

import math
from collections.abc import Sequence

from editkit.report.charts.labels import LETTER
from editkit.report.charts.scale import shown
from editkit.report.charts.svg import FONT, Markup, chart, element, text, tip

SIZE, MARGIN, RADIUS = 520.0, 70.0, 7.0
Arrow = tuple[int, int, float]
"""From the erased concept, to the one that suffers, how much."""


def strongest(values: Sequence[Sequence[float]], each: int = 2) -> list[Arrow]:
    """The `each` concepts that suffer most from erasing each one, as far as they suffer at all."""
    edges = []
    for i, row in enumerate(values):
        others = sorted((j for j in range(len(row)) if j != i and row[j] > 0), key=lambda j: -row[j])
        edges += [(i, j, row[j]) for j in others[:each]]
    return edges


def network_chart(concepts: Sequence[str], values: Sequence[Sequence[float]], says: str, each: int = 2) -> Markup:
    """Concepts that hurt each other lie close together (Fruchterman & Reingold 1991); an arrow leads from an erased
    concept to each of the `each` that suffer most, the thicker the more."""
    arrows = strongest(values, each)
    places = _places(len(concepts), values)
    most = max((value for _, _, value in arrows), default=1.0)
    parts = [_arrow(places[i], places[j], value, most, concepts[i], concepts[j]) for i, j, value in arrows]
    for (x, y), name in zip(places, concepts, strict=True):
        parts.append(element("circle", tip(name), cx=x, cy=y, r=RADIUS, class_="node"))
    for (x, y), name in zip(places, concepts, strict=True):
        half = len(name) * FONT * LETTER / 2
        middle = min(max(x, half + 2), SIZE - half - 2)
        parts.append(text(middle, y + (22 if y > SIZE / 2 else -13), name, "middle", "label halo"))
    return chart(SIZE, SIZE, says, *parts)


def _places(n: int, values: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Within the margins; the same for the same values."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    most = max((abs(values[i][j]) for i in range(n) for j in range(n) if i != j), default=0.0) or 1.0
    for i in range(n):
        for j in range(i):
            graph.add_edge(i, j, weight=0.02 + max(0.0, values[i][j] + values[j][i]) / (2 * most))
    layout = nx.spring_layout(graph, seed=1, weight="weight", iterations=300, k=1.6 / math.sqrt(max(n, 1)))
    xs, ys = zip(*(layout[i] for i in range(n)), strict=True)
    return list(zip(_spread(xs), _spread(ys), strict=True))


def _spread(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if high == low:
        return [SIZE / 2] * len(values)
    return [MARGIN + (float(value) - low) / (high - low) * (SIZE - 2 * MARGIN) for value in values]


def _arrow(
    start: tuple[float, float], stop: tuple[float, float], value: float, most: float, erased: str, other: str
) -> Markup:
    """A bent line, so that both directions of a pair can be told apart, and its head."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    width = 1 + 4 * value / most
    bend = 0.14
    cx, cy = (start[0] + stop[0]) / 2 - bend * dy, (start[1] + stop[1]) / 2 + bend * dx
    ex, ey = stop[0] - cx, stop[1] - cy
    end = math.hypot(ex, ey) or 1.0
    ux, uy = ex / end, ey / end
    head = 6 + width
    tx, ty = stop[0] - ux * (RADIUS + 2), stop[1] - uy * (RADIUS + 2)
    bx, by = tx - ux * head, ty - uy * head
    half = head / 2
    tips = ((tx, ty), (bx - uy * half, by + ux * half), (bx + uy * half, by - ux * half))
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in tips)
    strength = round(0.25 + 0.65 * value / most, 3)
    way = f"M{start[0]:.1f},{start[1]:.1f} Q{cx:.1f},{cy:.1f} {bx:.1f},{by:.1f}"
    says = tip(f"erasing {erased} costs {other} {shown(value)}")
    if length < 2 * RADIUS:
        return ""
    shaft = element("path", d=way, class_="edge", stroke_width=width)
    return element("g", says, shaft, element("polygon", points=corners, class_="arrow"), opacity=strength)
