"""Stable Diffusion XL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.sd import StableDiffusion, unet_output


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL: a UNet that reads two CLIP encoders, a pooled vector, and the picture's size."""

    families: ClassVar[tuple[str, ...]] = ("sdxl",)
    decodes_singly: ClassVar[bool] = True

    def _width(self, stream: str, names: Sequence[str]) -> int:
        return self.pipe.text_encoder_2.config.projection_dim if stream == "pooled" else super()._width(stream, names)

    def encode(self, prompts: Sequence[str], negative: str | None = None) -> tuple[list[Condition], Condition | None]:
        """As `StableDiffusion`; but where the model says so, nothing to lead away from is rows of zeros."""
        if negative != "" or not self.pipe.config.force_zeros_for_empty_prompt:
            return super().encode(prompts, negative)
        conditions, _ = super().encode(prompts)
        text, pooled = conditions[0].text, conditions[0].pooled
        assert pooled is not None
        return conditions, Condition(torch.zeros_like(text), torch.zeros_like(pooled))

    def _encoded(self, texts: list[str]) -> list[Condition]:
        rows, _, pooled, _ = self.pipe.encode_prompt(texts, None, self.device, 1, False)
        return [Condition(*pair) for pair in zip(rows.split(1), pooled.split(1), strict=True)]

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The UNet is told that the picture was never larger, and not cropped."""
        height, width = (side * self.pipe.vae_scale_factor for side in z.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width]).to(z).expand(len(z), -1)
        added = {"text_embeds": condition.pooled, "time_ids": sizes}
        return unet_output(network, z, t, condition, added_cond_kwargs=added)

    def _decoded(self, z: Tensor) -> Tensor:
        with exact(self.pipe.vae, z.device.type):
            return super()._decoded(z)

    def _shift_and_scale(self, z: Tensor) -> tuple[Any, Any]:
        config = self.pipe.vae.config
        if config.get("latents_mean") is None or config.get("latents_std") is None:
            return super()._shift_and_scale(z)
        mean, deviation = (
            torch.tensor(values).view(1, -1, 1, 1).to(z) for values in (config.latents_mean, config.latents_std)
        )
        return mean, config.scaling_factor / deviation


def exact(vae: Any, kind: str) -> Any:
    """A context in which a decoder whose values are too large for float16 does not compute in it: else its pictures
    are black. `kind` is the device's."""
    halved = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return torch.autocast(kind, enabled=False) if halved and vae.config.force_upcast else nullcontext()
