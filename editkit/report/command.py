"""`editkit compare`: a report, a grid, or a sweep; of given edits, or of all that are here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from PIL import Image

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.generate import compare_grid
from editkit.drawing.sampling import Settings
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.plugins import GROUPS
from editkit.report.compare import Path_, compare_report
from editkit.report.comparison import Comparison
from editkit.report.prompts import prompts_about
from editkit.report.sweep import sweep_report
from editkit.variants.here import edits_here
from editkit.variants.named import BASE, record_of


def compare(
    edits: Sequence[Path_] = (),
    prompts: Sequence[str] = (),
    seeds: str = "0-7",
    out: Path_ = "report",
    model: Path_ | None = None,
    sweep: Sequence[str] = (),
    concepts: Sequence[str] = (),
    method: str = GROUPS["methods"].default,
    protect: str | None = None,
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Comparison | Image.Image:
    """Draw the same prompts with the same noise under several edits.

    Args:
        edits: `base` for the unedited model, edit files, `RELEASE+KEY`. Default: `base` and every edit of the working
            folder that was made for the model.
        prompts: default: the concepts that the edits erase, and words near to and far from them.
        seeds: such as `0-7` or `1,4,9`.
        out: a folder for the report, or a picture file for the grid alone.
        model: as `open_model` takes it.
        sweep: make edits of `concepts`: `epochs=0..5`, `lamb=0.01,0.1,1`; several are combined.
        method: of the edits that a sweep makes; see `editkit.methods`.
        protect: of these edits; default: the method's.
        guides: what each concept of a sweep becomes.
        preserve: prompts that a sweep's edits leave as they are.
        vocabulary: words that are protected in a sweep, and whose damage is reported.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        force: replace what is at `out`.
        profile: what the model brings along, or a file that says it.
        settings: of `editkit.drawing.sampling.Settings`.

    Returns:
        What the report shows, or the grid.

    Raises:
        EditkitError: an edit does not fit the model, there is none, or `out` is there already.

    >>> import tempfile
    >>> out = f"{tempfile.mkdtemp()}/grid.png"
    >>> compare(["base"], ["a church"], "0-1", out, "emoji", steps=1).size
    (340, 169)
    """
    place, names = Path(out), [os.fspath(edit) for edit in edits]
    if sweep:
        return sweep_report(
            model, concepts, sweep, place, names or [BASE], prompts, seeds, method, protect, guides, preserve, device,
            force, vocabulary, profile, **settings,
        )  # fmt: skip
    if concepts:
        raise EditkitError("concepts: expected with a sweep alone; for one edit, `erase` makes what is compared")
    opened = open_model(model, profile=profile)
    names = names or [BASE, *_here(opened)]
    prompts = prompts or _prompts(opened, names)
    if place.suffix and not place.is_dir():
        return compare_grid(model, names, prompts, seeds, place, device, force, profile, **settings)
    return compare_report(model, names, prompts, seeds, place, device, force, vocabulary, profile, **settings)


def _here(model: EditableModel) -> list[str]:
    fitting, others = edits_here(model)
    if others:
        warnings.warn(f"left out, since made for another model: {', '.join(map(str, others))}", stacklevel=3)
    return [str(path) for path in fitting]


def _prompts(model: EditableModel, names: Sequence[str]) -> list[str]:
    """About what the edits erase."""
    concepts = list(dict.fromkeys(concept for name in names for concept in record_of(name).get("concepts", ())))
    if not concepts:
        raise EditkitError("--prompt: the unedited model alone says nothing of what to draw; give a prompt")
    return prompts_about(model, concepts)
