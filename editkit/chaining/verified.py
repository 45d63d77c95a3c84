"""Stages that prove what a stage exported."""

from __future__ import annotations

import json
from pathlib import Path

from editkit.chaining.task import Task
from editkit.errors import EditkitError
from editkit.files.atomic import write_text_atomic

EXPORTED, RESULT = "exported", "verify.json"


def check_verify(task: Task) -> None:
    """Refuse a stage that names no edit, or nothing that was exported."""
    if "edit" not in task.inputs:
        raise EditkitError("edit: expected a stage that makes an edit, or an edit file; the unedited model has none")
    if len(task.inputs.get(EXPORTED, ())) != 1:
        raise EditkitError(f"{EXPORTED}: expected one stage of the kind export, as diffusers or single-file")


def run_verify(task: Task) -> None:
    """Write what was found.

    Raises:
        EditkitError: it is not the recipe's model with that edit.
    """
    from editkit.variants.verify import YES, verify

    made = Path(task.input(EXPORTED))
    whole = made if made.is_dir() else made.with_name(f"{made.name}.safetensors")
    found = verify(whole, task.input("edit"), task.model.source.path)
    task.folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(task.folder / RESULT, json.dumps(found.as_dict(), indent=1) + "\n", force=True)
    if found.answer != YES:
        raise EditkitError(f"{whole}: {found.answer}: {found.why}")
