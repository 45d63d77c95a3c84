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
    from editkit.edit.edit import Edit
    from editkit.edit.edit_map import EditMap
    from editkit.edit.options import Options, defaults
    from editkit.edit.tuned import Tuned
    from editkit.editing import edit_prompt, erase
    from editkit.errors import EditkitError
    from editkit.model.apply import applied
    from editkit.model.edit_file import load_edit, save_edit
    from editkit.model.editable import open_model
    from editkit.model.export import export
    from editkit.model.pipeline import load
    from editkit.numbers.evaluate import evaluate

_HOMES = {
    "Edit": "editkit.edit.edit",
    "EditMap": "editkit.edit.edit_map",
    "EditkitError": "editkit.errors",
    "Options": "editkit.edit.options",
    "Tuned": "editkit.edit.tuned",
    "applied": "editkit.model.apply",
    "defaults": "editkit.edit.options",
    "edit_prompt": "editkit.editing",
    "erase": "editkit.editing",
    "evaluate": "editkit.numbers.evaluate",
    "export": "editkit.model.export",
    "load": "editkit.model.pipeline",
    "load_edit": "editkit.model.edit_file",
    "open_model": "editkit.model.editable",
    "save_edit": "editkit.model.edit_file",
}
__all__ = [
    "Edit", "EditMap", "EditkitError", "Options", "Tuned", "applied", "defaults", "edit_prompt", "erase", "evaluate",
    "export", "load", "load_edit", "open_model", "save_edit",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Nothing heavy is imported before it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'editkit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
