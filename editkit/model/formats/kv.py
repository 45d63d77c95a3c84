"""`kv`: the edited projections, or the tuned tensors, alone, for `load_state_dict(..., strict=False)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.model.formats import save_tensors


def write(edit: Variant, projections: Mapping[str, Tensor], part: Path) -> None:
    """Write `W'` of every projection that the edit changes, with diffusers' names and in the dtype of `W`."""
    save_tensors(edit.weights(projections), part)
