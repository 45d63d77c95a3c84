"""`kv`: the edited projections, or the tuned tensors, alone, for `load_state_dict(..., strict=False)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.model.editable import EditableModel
from editkit.model.formats import save_tensors
from editkit.model.formats.format import FileFormat, WriteReport


@dataclass(frozen=True)
class KV(FileFormat):
    """State dict of what was changed, for `load_state_dict(strict=False)`."""

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        write(edit, weights, part)
        return WriteReport()


def write(edit: Variant, projections: Mapping[str, Tensor], part: Path) -> None:
    """Write `W'` of every projection that the edit changes, with diffusers' names and in the dtype of `W`."""
    save_tensors(edit.weights(projections), part)
