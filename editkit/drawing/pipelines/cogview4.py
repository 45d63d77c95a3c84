"""CogView4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser
from editkit.drawing.sampling import Sampling


class CogView4(TransformerDenoiser):
    """CogView4: rows of GLM, padded on the left to a multiple of 16 and all read. It is told the picture's size."""

    families: ClassVar[tuple[str, ...]] = ("cogview4",)
    pipelines: ClassVar[tuple[str, ...]] = ("CogView4Pipeline",)

    def _prompt(self, text: str) -> Condition:
        return Condition(self.pipe.encode_prompt(text, None, False, device=self.device)[0])

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        import numpy
        from diffusers.pipelines.cogview4.pipeline_cogview4 import calculate_shift

        config, (_, height, width) = scheduler.config, self.latent_shape(sampling.size)
        times = numpy.linspace(config.num_train_timesteps, 1.0, sampling.steps).astype(numpy.int64)
        mu = calculate_shift(
            height * width // self._patch**2,
            config.get("base_image_seq_len", 256),
            config.get("base_shift", 0.25),
            config.get("max_shift", 0.75),
        )
        times = times.astype(numpy.float32)
        return {"timesteps": times, "sigmas": times / config.num_train_timesteps, "mu": mu}

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        size = torch.tensor([side * self.pipe.vae_scale_factor for side in z.shape[-2:]]).to(z).expand(len(z), -1)
        return network(
            hidden_states=z,
            encoder_hidden_states=condition.text,
            timestep=t,
            original_size=size,
            target_size=size,
            crop_coords=torch.zeros_like(size),
        ).sample
