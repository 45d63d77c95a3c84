"""Stages that pictures go into: `invert`, and what others take of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from editkit.chaining.task import Task

if TYPE_CHECKING:
    from editkit.embeddings.learned import Learned


def check_invert(task: Task) -> None:
    """Refuse a model that learns no tokens, and pictures and masks that do not fit."""
    from editkit.drawing.pipelines import check_drawable
    from editkit.model.editable import check_learnable
    from editkit.tuning.masks import Shown

    check_learnable(task.model.source)
    check_drawable(task.model.source)
    masks = task.words.get("masks")
    Shown.read(Path(task.words["pictures"]), None if masks is None else Path(masks))


def run_invert(task: Task) -> None:
    """Invert, from where it was stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C; it is not done.
    """
    from editkit.inverting.invert import invert
    from editkit.inverting.options import InvertOptions
    from editkit.inverting.unfinished import has_begun

    begun, options = has_begun(task.inversion), InvertOptions(**task.options)
    made = invert(
        task.model, out=task.inversion, options=options, device=task.device, resume=begun, force=not begun, **task.words
    )
    if "stopped" in made.record:
        raise KeyboardInterrupt


def learned_of(task: Task) -> list[Learned]:
    """The inversions that it takes."""
    from editkit.variants.learned_file import load_learned

    return [load_learned(file) for file in task.inputs.get("picture", ())]
