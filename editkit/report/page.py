"""The report as one HTML page that needs no network, and no file beside it but pictures too large for a page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from editkit.drawing.grid import size_in_grid
from editkit.evaluation.extra import need
from editkit.evaluation.statistics.intervals import Estimate
from editkit.report.cells import prompt_grids
from editkit.report.charts.palette import properties, variant_class
from editkit.report.charts.svg import chart_css
from editkit.report.comparison import Comparison
from editkit.report.drawn import INSIDE_UP_TO
from editkit.report.heat import colours, filter_tables
from editkit.report.plots import Figure, damage_figure, delta_figure, spectrum_figure
from editkit.report.shares import Shares, count_shares
from editkit.report.tables import drawing_lines, figure_lines, file_lines, option_lines

PAGE_SIZE = "<!-- size of the page -->"
"""Stands in a page until its size is known. No text of a user can be this: `<` is escaped."""


def render(comparison: Comparison, command: str, lead: Sequence[Figure] = (), notes: Sequence[str] = ()) -> str:
    """The page. `lead` are charts that come first (a sweep's curve), `notes` are said above the pictures."""
    shares = count_shares(comparison) if comparison.detections else None
    figures = (damage_figure(comparison), spectrum_figure(comparison), delta_figure(comparison))
    edits = [variant for variant in comparison.variants if variant.edit is not None]
    pictures = comparison.pictures
    cells = len(comparison.prompts) * len(comparison.variants), len(comparison.seeds)
    page = template("report.html.j2").render(
        title=title(comparison),
        model=comparison.model.source.name,
        variants=[
            {"name": variant.name, "class": variant_class(n), "edited": variant.edit is not None}
            for n, variant in enumerate(comparison.variants)
        ],
        seeds=comparison.seeds,
        glance=glance(comparison, shares),
        judged=shares is not None,
        lead=lead,
        notes=notes,
        grids=list(prompt_grids(comparison)),
        figures=[figure for figure in figures if figure is not None],
        edit_names=[variant.name for variant in edits],
        figure_lines=figure_lines(edits),
        option_lines=option_lines(edits),
        file_lines=file_lines(edits),
        drawing_lines=drawing_lines(comparison),
        command=command,
        styles=styles(bool(pictures.files)),
        script=_read("report.js"),
        data=_data(comparison),
        page_size=PAGE_SIZE,
        size=pictures.size,
        size_in_grid=size_in_grid(pictures.size, *cells),
        inside_up_to=INSIDE_UP_TO,
        large=bool(pictures.files),
        pictures_size=file_size(sum(file.stat().st_size for file in pictures.files.values())),
        heat_tables=filter_tables(),
    )
    return _with_its_size(page)


def file_size(count: int) -> str:
    """Bytes for a reader.

    >>> file_size(15_312_000), file_size(431_200), file_size(0)
    ('15.3 MB', '431 kB', '0 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 999_500 else f"{count / 1e3:.0f} kB"


def _with_its_size(page: str) -> str:
    before, after = page.split(PAGE_SIZE)
    said, rest = "", len((before + after).encode())
    for _ in range(3):  # the text that says the size is part of it
        said = file_size(rest + len(said))
    return before + said + after


def title(comparison: Comparison) -> str:
    """What the edits are about."""
    concepts = comparison.erased()
    if not concepts:
        return "Variants side by side"
    listed = ", ".join(concepts[:3]) + (f" and {len(concepts) - 3} more" if len(concepts) > 3 else "")
    return f"Without {listed}" if len(concepts) > 1 else f"Without “{listed}”"


def glance(comparison: Comparison, shares: Sequence[Shares] | None) -> list[dict[str, Any]]:
    """One row a variant: shares with intervals, what is left of the concept, the worst damage."""
    rows = []
    for n, variant in enumerate(comparison.variants):
        damage = comparison.damage[n]
        rates = vars(shares[n]) if shares is not None else {}
        rows.append({
            "name": variant.name,
            "class": variant_class(n),
            "rates": {name: _rate(rate) for name, rate in rates.items()},
            "residual": variant.record.get("figures", {}).get("erasure_residual"),
            "worst": None if damage is None else damage.ranked()[0],
            "mean": None if damage is None else sum(damage.values) / len(damage.values),
        })  # fmt: skip
    return rows


def _rate(rate: Estimate) -> dict[str, Any] | None:
    if not rate.count:
        return None
    shares = {"value": 100 * rate.value, "low": 100 * rate.low, "high": 100 * rate.high}
    return {**shares, "hits": round(rate.value * rate.count), "count": rate.count}


def _data(comparison: Comparison) -> dict[str, Any]:
    """What the page's script needs to know; the pictures it takes from the page."""
    return {
        "variants": [variant.name for variant in comparison.variants],
        "prompts": list(comparison.prompts),
        "seeds": list(comparison.seeds),
        "heat": colours().reshape(-1).tolist(),
        "size": comparison.pictures.size,
        "large": bool(comparison.pictures.files),
    }


def styles(large: bool) -> str:
    """The style sheet of a page, light and dark; `large`: for pictures that lie beside it."""
    light, dark = properties(False), properties(True)
    themes = (
        f":root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}"
    )
    return themes + _read("report.css") + (_read("large.css") if large else "") + chart_css()


def _read(name: str) -> str:
    return (files("editkit.report") / "template" / name).read_text(encoding="utf-8")


def template(name: str) -> Any:
    """A page to be filled in."""
    jinja2 = need("jinja2", "eval", "a report")
    loader = jinja2.PackageLoader("editkit.report", "template")
    page = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=loader, **page).get_template(name)
