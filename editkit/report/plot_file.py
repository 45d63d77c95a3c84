"""A chart as a file: SVG, or PNG."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from editkit.errors import EditkitError
from editkit.evaluation.extra import need
from editkit.files.atomic import check_free, write_atomic, write_text_atomic
from editkit.report.charts.svg import Markup, standalone

ENDINGS = (".svg", ".png")
PNG_ZOOM = 2


def check_plot(path: Path, force: bool = False) -> None:
    """Refuse another kind of file, and a place that cannot be written. Call it before the work starts."""
    if path.suffix.lower() not in ENDINGS:
        raise EditkitError(f"{path}: expected a plot file (.svg or .png), got {path.suffix or 'no ending'!r}")
    check_free(path, force)
    check_free(path.with_suffix(".json"), force)
    if path.suffix.lower() == ".png":
        _resvg()


def write_plot(path: Path, svg: Markup, force: bool = False) -> None:
    """By the ending of `path`: SVG that follows the reader's light or dark, or PNG of the light one."""
    if path.suffix.lower() == ".svg":
        write_text_atomic(path, standalone(svg), force)
    else:
        pixels = bytes(
            _resvg().svg_to_bytes(svg_string=standalone(svg), zoom=PNG_ZOOM, sans_serif_family="DejaVu Sans")
        )
        write_atomic(path, lambda part: _write(part, pixels), force)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _resvg() -> ModuleType:
    return need("resvg_py", "eval", "a plot as PNG (as SVG it needs nothing)")
