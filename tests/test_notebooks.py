"""The notebooks run, and the paired files hold the same cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def cells(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pairs_agree_and_outputs_are_shown(path: Path) -> None:
    paired = jupytext.read(path.with_suffix(".ipynb"))
    assert cells(paired) == cells(jupytext.read(path)), "run `make notebooks`"
    outputs = [output for cell in paired.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path: Path) -> None:
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    fewer = (  # pictures, steps and strengths; `make notebooks` draws them all
        ('"0-3", folder / "church.png"', '"0", folder / "church.png", steps=4'),
        ('seeds="0-3"', 'seeds="0", steps=4'),
        ("0.01,0.5,50", "0.01,50"),
    )
    whole = "\n".join(cell.source for cell in notebook.cells)
    assert all(whole.count(usual) == 1 for usual, _ in fewer)
    for cell in notebook.cells:
        for usual, less in fewer:
            cell.source = cell.source.replace(usual, less)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    printed = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "stream")
    assert "erasure_residual" in printed
