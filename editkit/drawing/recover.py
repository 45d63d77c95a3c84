"""Draw with a release and its key."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from PIL import Image

from editkit.drawing.generate import check_picture, draw_grid
from editkit.drawing.pipelines import check_drawable
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampling import Settings
from editkit.edits.key import Key, Unlocked
from editkit.files.atomic import write_atomic
from editkit.model.editable import EditableModel


def recover_grid(
    model: EditableModel,
    unlocked: Unlocked,
    prompts: Sequence[str],
    seeds: str,
    out: Path,
    device: str | None = None,
    force: bool = False,
    **settings: Unpack[Settings],
) -> Image.Image:
    """One row a prompt, one column a seed. The key is used where a prompt names what it opens."""
    check_picture(out, force)
    check_drawable(model.source)
    numbers = parse_seeds(seeds)
    _warn_of_others(unlocked.key, prompts)
    sheet = draw_grid(model.source, prompts, ["recovered"], [unlocked], numbers, device, **settings)
    write_atomic(out, sheet.save, force)
    return sheet


def _warn_of_others(key: Key, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if not key.opened(prompt):
            warnings.warn(
                f"prompt {prompt!r} names none of {', '.join(key.concepts)}: drawn without the key", stacklevel=3
            )
