"""editkit: remove, change and balance concepts in text-to-image diffusion models, and prove it.

>>> import editkit
>>> edit = editkit.erase(editkit.open_model("emoji"), ["church"])
>>> pipe = editkit.load("emoji")
>>> with editkit.applied(pipe, edit):
...     picture = pipe("a church").images[0]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editkit.edits.edit import Edit
    from editkit.edits.edit_map import EditMap
    from editkit.edits.method import Options
    from editkit.edits.tuned import Tuned
    from editkit.erasure.edit import edit
    from editkit.erasure.erase import erase
    from editkit.errors import EditkitError
    from editkit.evaluation.evaluate import evaluate
    from editkit.model.apply import applied
    from editkit.model.editable import open_model
    from editkit.model.pipeline import load
    from editkit.report.compare import compare_report
    from editkit.report.concept_graph import concept_graph
    from editkit.report.sensitivity import sensitivity
    from editkit.report.sweep import sweep_report
    from editkit.variants.edit_file import load_edit, save_edit
    from editkit.variants.export import export

_HOMES = {
    "Edit": "editkit.edits.edit",
    "EditMap": "editkit.edits.edit_map",
    "EditkitError": "editkit.errors",
    "Options": "editkit.edits.method",
    "Tuned": "editkit.edits.tuned",
    "applied": "editkit.model.apply",
    "compare_report": "editkit.report.compare",
    "concept_graph": "editkit.report.concept_graph",
    "edit": "editkit.erasure.edit",
    "erase": "editkit.erasure.erase",
    "evaluate": "editkit.evaluation.evaluate",
    "export": "editkit.variants.export",
    "load": "editkit.model.pipeline",
    "load_edit": "editkit.variants.edit_file",
    "open_model": "editkit.model.editable",
    "save_edit": "editkit.variants.edit_file",
    "sensitivity": "editkit.report.sensitivity",
    "sweep_report": "editkit.report.sweep",
}
__all__ = [
    "Edit", "EditMap", "EditkitError", "Options", "Tuned", "applied", "compare_report", "concept_graph",
    "edit", "erase", "evaluate", "export", "load", "load_edit", "open_model", "save_edit", "sensitivity",
    "sweep_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Nothing heavy is imported before it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'editkit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
