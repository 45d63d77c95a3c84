"""Rows of the table for the gradient stage: objectives, searches, starts, the bank of latents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.edits.method import Options
from editkit.edits.variant import Variant
from editkit.emoji.rows import IMPLICIT, UNSAFE, Maker, Row, Without, closed_form, groups, members, words_without
from editkit.model.editable import EditableModel
from editkit.tuning.checkpoint import NAME as CHECKPOINT
from editkit.tuning.hide import hide
from editkit.tuning.loop import LOG
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.variants.edit_file import load_edit
from editkit.variants.folder import TUNED_NAME
from editkit.variants.key_file import RANDOM

STEPS, QUARTER, FEW = 1000, 250, 50
REFRESH = 100
"""Steps until a row's bank is drawn anew, where it does not say another number."""
HELD = {"none": "no key", "own": "its key", "random": "a random key", "other": "another release's key"}


WARM = Row("start", closed_form(Options("rece"), "minimax"))
"""Where a warm run starts."""


def refine_rows() -> Iterator[Row]:
    """`warm` starts from RECE with minimax; every other row from the original. Adversarial preservation is run for as
    many steps as in the paper, and for a quarter of them; everything it is compared with for a quarter."""
    for name, start in (("AP, cold", None), ("AP, warm", WARM)):
        yield Row(f"{name}, {QUARTER} steps", trained("ap", start))
        yield Row(f"{name}, {STEPS} steps", trained("ap", start, STEPS, after=QUARTER))
        yield Row(f"{name}, {QUARTER} steps, refresh 10", trained("ap", start, refresh=10))
    yield Row("AGE", trained("age"))
    yield Row("ESD-x", trained("esd", param="xattn"))
    yield Row("ESD-u", trained("esd", param="noxattn"))
    yield Row("CA", trained("ca"))
    yield Row("naive", trained("naive"))
    yield Row("AP, search exact", trained("ap", search="exact"))
    yield Row("AP, search closed-form", trained("ap", search="closed-form"))
    for refresh in (REFRESH, 10):
        yield Row(f"AP, {FEW} steps, refresh {refresh}", trained("ap", steps=FEW, refresh=refresh))
    yield Row(f"AP, {FEW} steps, no bank", trained("ap", steps=FEW, bank=False, sampling_steps=50))
    for objective in ("hide", "hide-ap"):
        for key, name in HELD.items():
            yield Row(f"{objective}, {name}", hidden(key, objective))
    for param in ("xattn", "noxattn"):
        yield Row(f"AP, {param}, unsafe", trained("ap", param=param, without=members), UNSAFE)
        yield Row(f"AP, {param}, implicit", trained("ap", param=param, without=groups), IMPLICIT)


def trained(
    objective: str,
    start: Row | None = None,
    steps: int = QUARTER,
    after: int = 0,
    without: Without | None = None,
    **options: Any,
) -> Maker:
    """A run that was stopped goes on, one that is done is not made again.

    Args:
        start: the closed form that it starts from; made once, for a run goes on only from the very start that it had.
        without: what its search does not look at.
        after: go on from the row that ends after so many steps, where that was measured: it is the same run.
    """

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> str:
        if (place / TUNED_NAME).exists():
            return str(place)
        shorter = place.with_name(place.name.replace(str(steps), str(after)))
        if shorter.exists() and not place.exists():
            place.mkdir()
            for name in (CHECKPOINT, LOG):
                shutil.copy(shorter / name, place)
        warm = _made_once(start, model, concepts, place) if start else None
        chosen = RefineOptions.of(objective, model.profile, **{"steps": steps, "refresh": REFRESH, **options})
        words = words_without(without(concepts)) if without else None
        resume = (place / CHECKPOINT).exists()
        refine(model, place, concepts, warm, options=chosen, vocabulary=words, resume=resume)
        return str(place)

    return make


def hidden(key: str, objective: str = "hide") -> Maker:
    """One release a split, drawn with what `key` stands for: `none`, `own`, `random`, or `other`, that of a second
    release of the same concepts."""

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> str:
        release, own = _hidden(model, concepts, place.with_name(objective), objective, 0)
        if key == "none":
            return str(release)
        other = (
            _hidden(model, concepts, place.with_name(f"{objective}-other"), objective, 1)[1] if key == "other" else own
        )
        return f"{release}+{RANDOM if key == 'random' else other}"

    return make


def _hidden(
    model: EditableModel, concepts: Sequence[str], release: Path, objective: str, key_seed: int
) -> tuple[Path, Path]:
    key = release.with_name(f"{release.name}.key.safetensors")
    if not (release / TUNED_NAME).exists():
        options = RefineOptions.of(objective, model.profile, steps=QUARTER, refresh=REFRESH)
        resume = (key.with_suffix(".run") / CHECKPOINT).exists()
        hide(model, release, key, concepts, options=options, key_seed=key_seed, resume=resume, force=True)
    return release, key


def _made_once(start: Row, model: EditableModel, concepts: Sequence[str], place: Path) -> Variant:
    assert start.make is not None
    beside = place.with_name(start.slug)
    path = beside.with_suffix(".safetensors")
    return load_edit(path if path.exists() else start.make(model, concepts, beside))
