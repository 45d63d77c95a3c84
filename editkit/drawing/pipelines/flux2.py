"""FLUX.2 klein."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser, shifted_times
from editkit.drawing.sampling import Sampling


class Flux2Klein(TransformerDenoiser):
    """FLUX.2 klein: three layers of Qwen3 side by side. Latents are squares of four of the decoder's; a distilled one
    draws without guidance."""

    families: ClassVar[tuple[str, ...]] = ("flux2",)
    pipelines: ClassVar[tuple[str, ...]] = ("Flux2KleinPipeline",)
    patched: ClassVar[int] = 4

    @property
    def _channels(self) -> int:
        return self.network.config.in_channels

    def latent_shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        channels, height, width = super().latent_shape(size)
        return channels, height // 2, width // 2

    def _prompt(self, text: str) -> Condition:
        return Condition(self.pipe.encode_prompt(text, device=self.device)[0])

    def away(self, sampling: Sampling) -> float | None:
        return None if self.pipe.config.is_distilled else super().away(sampling)

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        _, height, width = self.latent_shape(sampling.size)
        return shifted_times(scheduler, sampling.steps, compute_empirical_mu(height * width, sampling.steps))

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        said = network(
            hidden_states=z.flatten(2).transpose(1, 2),
            timestep=t / 1000,
            encoder_hidden_states=condition.text,
            txt_ids=self.pipe._prepare_text_ids(condition.text).to(z.device),
            img_ids=self.pipe._prepare_latent_ids(z).to(z.device),
            guidance=None,
        ).sample
        return said.transpose(1, 2).unflatten(2, z.shape[-2:])

    def _shift_and_scale(self, z: Tensor) -> tuple[Any, Any]:
        norm, eps = self.pipe.vae.bn, self.pipe.vae.config.batch_norm_eps
        mean, variance = (values.view(1, -1, 1, 1).to(z) for values in (norm.running_mean, norm.running_var))
        return mean, 1 / torch.sqrt(variance + eps)

    def _decoded(self, z: Tensor) -> Tensor:
        return super()._decoded(self.pipe._unpatchify_latents(z))

    def _coded(self, pixels: Tensor) -> Tensor:
        return self.pipe._patchify_latents(super()._coded(pixels))
