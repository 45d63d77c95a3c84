"""Qwen-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.lumina2 import as_long
from editkit.drawing.pipelines.transformer import TransformerDenoiser, falling, in_a_row, in_a_square, shift_of
from editkit.drawing.sampling import Sampling


class QwenImage(TransformerDenoiser):
    """Qwen-Image: rows of Qwen2.5-VL. Its guidance is classifier-free, what it makes brought back to the length of what
    the prompt alone makes; the decoder is one of videos, given one frame."""

    families: ClassVar[tuple[str, ...]] = ("qwenimage",)
    pipelines: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)
    patched: ClassVar[int] = 4
    reads_masks: ClassVar[bool] = True

    def _prompt(self, text: str) -> Condition:
        most = self._default("max_sequence_length")
        rows, mask = self.pipe.encode_prompt(text, device=self.device, max_sequence_length=most)
        return Condition(rows, mask=mask)

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        _, height, width = self.latent_shape(sampling.size)
        return {"sigmas": falling(sampling.steps), "mu": shift_of(scheduler, (height // 2) * (width // 2))}

    def guided(self, without: Tensor, with_text: Tensor, scale: float) -> Tensor:
        rows = in_a_row(super().guided(without, with_text, scale))
        return in_a_square(as_long(rows, in_a_row(with_text)), *without.shape[-2:])

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        height, width = z.shape[-2:]
        said = network(
            hidden_states=in_a_row(z),
            timestep=t / 1000,
            guidance=condition.scale if self.network.config.guidance_embeds else None,
            encoder_hidden_states=condition.text,
            encoder_hidden_states_mask=None if condition.mask is None else condition.mask.bool(),
            img_shapes=[[(1, height // 2, width // 2)]] * len(z),
        ).sample
        return in_a_square(said, height, width)

    def _shift_and_scale(self, z: Tensor) -> tuple[Any, Any]:
        config = self.pipe.vae.config
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1).to(z) for v in (config.latents_mean, config.latents_std))
        return mean, 1 / deviation

    def _decoded(self, z: Tensor) -> Tensor:
        return super()._decoded(z[:, :, None])[:, :, 0]

    def _coded(self, pixels: Tensor) -> Tensor:
        return super()._coded(pixels[:, :, None])[:, :, 0]
