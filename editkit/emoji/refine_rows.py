"""Rows of the table for the gradient stage: objectives, searches, starts, the bank of latents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.edit.edit import Edit
from editkit.edit.options import defaults as edit_defaults
from editkit.edit.tuned import Tuned
from editkit.editing import erase
from editkit.emoji.rows import Maker, Row
from editkit.model.edit_file import load_edit, save_edit
from editkit.model.editable import EditableModel
from editkit.model.record import TUNED_NAME
from editkit.refine.checkpoint import NAME as CHECKPOINT
from editkit.refine.loop import LOG
from editkit.refine.options import defaults
from editkit.refine.refine import refine

UNSAFE = "emoji-unsafe"
STEPS = 1000


def refine_rows() -> Iterator[Row]:
    """`warm` starts from RECE with minimax; every other row from the original."""
    quarter = STEPS // 4
    for name, warm in (("AP, cold", False), ("AP, warm", True)):
        yield Row(f"{name}, {quarter} steps", trained("ap", warm, quarter))
        yield Row(name, trained("ap", warm, after=quarter))
    yield Row("AGE", trained("age"))
    yield Row("ESD-x", trained("esd", param="xattn"))
    yield Row("ESD-u", trained("esd", param="noxattn"))
    yield Row("CA", trained("ca", steps=400))
    yield Row("naive", trained("naive"))
    yield Row("AP, cold, search exact", trained("ap", search="exact"))
    yield Row("AP, cold, search closed-form", trained("ap", search="closed-form"))
    yield Row("AP, cold, no bank, 100 steps", trained("ap", steps=100, bank=False, sampling_steps=50))
    for param in ("xattn", "noxattn"):
        yield Row(f"AP, cold, {param}, unsafe", trained("ap", param=param), UNSAFE)


def trained(objective: str, warm: bool = False, steps: int = STEPS, after: int = 0, **options: Any) -> Maker:
    """A run that was stopped goes on, one that is done is not made again.

    Args:
        after: go on from the row that ends after so many steps, where that was measured: it is the same run.
    """

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> Path:
        if (place / TUNED_NAME).exists():
            return place
        shorter = place.with_name(f"{place.name}-{after}-steps")
        if shorter.exists() and not place.exists():
            place.mkdir()
            for name in (CHECKPOINT, LOG):
                shutil.copy(shorter / name, place)
        start = _start(model, concepts, place.with_name("start.safetensors")) if warm else None
        chosen = defaults(objective, model.source, steps=steps, **options)
        refine(model, place, concepts, start, options=chosen, resume=(place / CHECKPOINT).exists())
        return place

    return make


def _start(model: EditableModel, concepts: Sequence[str], path: Path) -> Edit | Tuned:
    """RECE with minimax, made once: a run goes on only from the very start that it had."""
    if not path.exists():
        save_edit(erase(model, concepts, options=edit_defaults("rece")), path)
    return load_edit(path)
