"""`kohya`: an edit as a LoRA with the names of kohya's sd-scripts, which WebUI, ComfyUI and diffusers load.

https://github.com/kohya-ss/sd-scripts trains SD 1.x and 2.x on diffusers' UNet and SDXL on the original one, and its
files are named accordingly; all three programs know both. So `lora_unet_down_blocks_0_attentions_0_…` for SD 1.x and
2.x, `lora_unet_input_blocks_4_1_…` for SDXL, whose pooled projection is `lora_unet_label_emb_0_0`. Files of SD3 and
FLUX.1 are named after the networks as they were published, with fused layers: see `editkit.model.formats.fused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.editable import EditableModel
from editkit.model.families.family import Family
from editkit.model.formats import save_tensors
from editkit.model.formats.format import WriteReport
from editkit.model.formats.fused import NAMES, fused
from editkit.model.formats.lora import Layer, LowRankFormat, factors

VERSIONS = {
    "sd1": {"ss_base_model_version": "sd_v1", "ss_v2": "False"},
    "sd2": {"ss_base_model_version": "sd_v2", "ss_v2": "True"},
    "sdxl": {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"},
    "sd3": {"ss_base_model_version": "sd3"},
    "flux1": {"ss_base_model_version": "flux1"},
}
"""Metadata by which WebUI hides the LoRAs of another family than the loaded checkpoint's."""


@dataclass(frozen=True)
class Kohya(LowRankFormat):
    """LoRA for WebUI and ComfyUI, with the names of kohya's sd-scripts."""

    source: ClassVar[str] = "https://github.com/kohya-ss/sd-scripts"

    @classmethod
    def suits(cls, family: Family) -> bool:
        return family.name in VERSIONS

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        return self.written(write(edit, weights, part, model.source.family.name, self.rank))


def write(edit: Variant, projections: Mapping[str, Tensor], part: Path, family: str, rank: int | None = None) -> float:
    """Write `lora_unet_*.lora_down.weight`, `.lora_up.weight` and `.alpha`; returns the error made.

    `alpha` is the rank, so that strength 1 is the whole edit. `rank`, of each layer of diffusers, and the error are
    those of `editkit.model.formats.lora.factors`; fusing layers makes none.

    Raises:
        EditkitError: a family without such names, and what `factors` raises.
    """
    if family not in VERSIONS:
        raise EditkitError(
            f"--format kohya: the family must be one of {', '.join(VERSIONS)}, but got {family!r}; use --format lora"
        )
    layers, error = factors(edit, projections, rank)
    tensors, used = {}, next(iter(layers.values())).down.shape[0]
    for module, layer in _named(layers, family).items():
        name = f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = layer.down
        tensors[f"{name}.lora_up.weight"] = layer.up
        tensors[f"{name}.alpha"] = torch.tensor(float(len(layer.down)))
    size = {"ss_network_module": "networks.lora", "ss_network_dim": str(used), "ss_network_alpha": str(float(used))}
    save_tensors(tensors, part, {**VERSIONS[family], **size})
    return error


def _named(layers: Mapping[str, Layer], family: str) -> Mapping[str, Layer]:
    """Layers by the names that they have where the family was published."""
    if family in NAMES:
        return fused(layers, family)
    if family == "sdxl":
        return {ldm_name(f"{name}.weight", family).removesuffix(".weight"): layer for name, layer in layers.items()}
    return layers
