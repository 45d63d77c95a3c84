"""Write an edit as weights that other programs load."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from editkit.edit.edit import Edit
from editkit.errors import EditkitError
from editkit.model.atomic import write_atomic
from editkit.model.editable import EditableModel
from editkit.model.fit import check_fit

FORMATS = ("kv",)


def export(edit: Edit, model: EditableModel, path: Path | str, format: str = "kv", force: bool = False) -> int:
    """Write the edited projections of `model`; returns how many.

    `kv`: a state dict of the edited projections alone, named as in diffusers, for
    `pipe.unet.load_state_dict(..., strict=False)`.
    """
    if format not in FORMATS:
        raise EditkitError(f"--format: must be one of {', '.join(FORMATS)}, but got {format!r}")
    check_fit(edit, model, force)
    edited = {name: weight.contiguous() for name, weight in edit.weights(model.projections).items()}
    write_atomic(Path(path), lambda part: save_file(edited, part, {"format": "pt"}), force)
    return len(edited)
