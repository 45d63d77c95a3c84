"""Rows of the table for the gradient stage: objectives, searches, starts, the bank of latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.edit.options import defaults as edit_defaults
from editkit.editing import erase
from editkit.emoji.rows import Maker, Row
from editkit.model.editable import EditableModel
from editkit.refine.checkpoint import NAME as CHECKPOINT
from editkit.refine.options import defaults
from editkit.refine.refine import refine

UNSAFE = "emoji-unsafe"
STEPS = 1000


def refine_rows() -> Iterator[Row]:
    """`warm` starts from RECE with minimax; every other row from the original."""
    yield Row("AP, cold", trained("ap"))
    yield Row("AP, warm, a quarter of the steps", trained("ap", warm=True, steps=STEPS // 4))
    yield Row("AP, warm", trained("ap", warm=True))
    yield Row("AGE", trained("age"))
    yield Row("ESD-x", trained("esd", param="xattn"))
    yield Row("ESD-u", trained("esd", param="noxattn"))
    yield Row("CA", trained("ca"))
    yield Row("naive", trained("naive"))
    yield Row("AP, cold, search exact", trained("ap", search="exact"))
    yield Row("AP, cold, search closed-form", trained("ap", search="closed-form"))
    yield Row("AP, cold, a quarter of the steps", trained("ap", steps=STEPS // 4))
    yield Row("AP, cold, a quarter of the steps, no bank", trained("ap", steps=STEPS // 4, bank=False))
    for param in ("xattn", "noxattn"):
        yield Row(f"AP, cold, {param}, unsafe", trained("ap", param=param), UNSAFE)


def trained(objective: str, warm: bool = False, steps: int = STEPS, **options: Any) -> Maker:
    """A run that was stopped goes on."""

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> Path:
        usual = {"steps": steps} if objective != "ca" else {}
        chosen = defaults(objective, model.source, **usual, **options)
        start = erase(model, concepts, options=edit_defaults("rece")) if warm else None
        refine(model, place, concepts, start, options=chosen, resume=(place / CHECKPOINT).exists())
        return place

    return make
