"""`single-file`: the given checkpoint with just the edited tensors' bytes replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.files.header import read_header
from editkit.model.checkpoints.ldm_names import UNET_PREFIX
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.projections import read_tensors
from editkit.model.editable import EditableModel
from editkit.model.families.family import Family
from editkit.model.formats.format import FileFormat, Stored, WriteReport
from editkit.model.formats.rewrite import rewrite


@dataclass(frozen=True)
class SingleFile(FileFormat):
    """The given checkpoint with the edit in it, for WebUI and ComfyUI."""

    reads: ClassVar[Stored | None] = "single file"

    @classmethod
    def suits(cls, family: Family) -> bool:
        return family.component == "unet"

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        source = model.source
        return WriteReport.rounded(write(edit, weights, source.path, part, source.family.name))


def write(edit: Variant, projections: Mapping[str, Tensor], source_file: Path, part: Path, family: str) -> float:
    """Stream `source_file` to `part` with the edited projections in it: every other byte is the same.

    Moving averages of the projections (`model_ema.*`) are edited too, where the checkpoint holds them. A float8
    checkpoint stays one.

    `projections` are the file's own, as `editkit.model.checkpoints.single_file` reads them.

    Returns:
        What float8 loses, see `editkit.model.formats.rewrite`; 0 for other dtypes.

    Raises:
        EditkitError: the file is no such checkpoint, or does not hold the projections in their shape and dtype.
        OSError: `part` cannot be written.
    """
    names = read_header(source_file).tensors
    prefix = UNET_PREFIX if any(name.startswith(UNET_PREFIX) for name in names) else ""
    own = {name: prefix + ldm_name(name, family) for name in projections}
    twins = {name: twin for name in projections if (twin := averaged(ldm_name(name, family))) in names}
    averages = read_tensors(source_file, set(twins.values()).__contains__)
    before = {own[name]: weight for name, weight in projections.items()} | averages
    edited = {own[name]: weight for name, weight in edit.weights(projections).items()}
    of_averages = edit.weights({name: averages[twin] for name, twin in twins.items()})
    return rewrite(source_file, part, before, edited | {twins[name]: weight for name, weight in of_averages.items()})


def averaged(name: str) -> str:
    """The name of a weight's moving average, which some released checkpoints hold beside it: without dots."""
    return "model_ema." + f"diffusion_model.{name}".replace(".", "")
