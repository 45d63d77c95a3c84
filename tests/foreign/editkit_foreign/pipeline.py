"""A kind of pipeline: what draws the family of `editkit_foreign.family`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from editkit.drawing.pipelines.sd import StableDiffusion
from editkit.model.checkpoints.source import Source
from editkit.model.placement import Placement


class Negative(StableDiffusion):
    """Negative Diffusion: draws the negative of what Stable Diffusion draws."""

    families: ClassVar[tuple[str, ...]] = ("negative",)

    @classmethod
    def open(cls, source: Source, device: str, placement: Placement, /) -> Negative:
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(
            source.path, dtype=placement.weight_dtype("unet", {}), use_safetensors=True, local_files_only=True
        )
        pipe.set_progress_bar_config(disable=True)
        return cls(pipe.to(device))

    def decode(self, z: Tensor) -> Tensor:
        return -super().decode(z)
