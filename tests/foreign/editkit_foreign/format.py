"""A format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from editkit.edits.variant import Variant
from editkit.model.editable import EditableModel
from editkit.model.formats.format import FileFormat, WriteReport
from editkit.options import option


@dataclass(frozen=True)
class Npz(FileFormat):
    """Arrays of numpy: the weights that were changed."""

    precision: str = option("float32", "Of the arrays.", choices=("float32", "float16"))

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        arrays: dict[str, Any] = {
            name: weight.float().numpy().astype(self.precision) for name, weight in edit.weights(weights).items()
        }
        with part.open("wb") as stream:
            np.savez(stream, **arrays)
        return WriteReport()
