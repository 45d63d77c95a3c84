"""`text-encoder`: a trained text encoder, whole, as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import read_component
from editkit.model.editable import EditableModel
from editkit.model.encoder_weights import encoder_weight, encoders_of
from editkit.model.families.family import Family
from editkit.model.families.support import TRAINED
from editkit.model.formats import save_tensors
from editkit.model.formats.format import FileFormat, Held, Stored, WriteReport
from editkit.options import option


@dataclass(frozen=True)
class TextEncoderFile(FileFormat):
    """A whole text encoder with what was trained, for programs that load it in place of the model's own.

    Names and dtypes are those of the model's files.
    """

    reads: ClassVar[Stored | None] = "folder"
    holds: ClassVar[tuple[Held, ...]] = ("text encoders",)
    component: str = option("text_encoder", "Which, where several were trained.")

    @classmethod
    def suits(cls, family: Family) -> bool:
        return family.name in TRAINED  # others' are not trained

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        trained = encoders_of(edit.names)
        if self.component not in trained:
            raise EditkitError(f"--component {self.component}: was not trained; expected {' or '.join(trained)}")
        stored = read_component(model.source, self.component)
        names = {encoder_weight(self.component, own): own for own in stored}
        edited = edit.weights({name: weights[name] for name in names if name in weights})
        save_tensors(stored | {names[name]: value for name, value in edited.items()}, part)
        return WriteReport()
