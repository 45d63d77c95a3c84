"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser, shift_of
from editkit.drawing.sampling import Sampling


class StableDiffusion3(TransformerDenoiser):
    """Stable Diffusion 3: two CLIP encoders and T5 in one sequence, and both CLIPs' pooled vectors. Without a T5, its
    rows are zeros."""

    families: ClassVar[tuple[str, ...]] = ("sd3",)
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    shifted: ClassVar[bool] = True

    def _prompt(self, text: str) -> Condition:
        rows, _, pooled, _ = self.pipe.encode_prompt(
            text, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return Condition(rows, pooled)

    def _window(self) -> tuple[Any, int]:
        if self.pipe.text_encoder_3 is None:
            return self.pipe.tokenizer, self.pipe.tokenizer.model_max_length
        return self.pipe.tokenizer_3, self._default("max_sequence_length")

    def _longest(self) -> int:
        return self.pipe.tokenizer_max_length + self._default("max_sequence_length")

    def _most_patches(self) -> int:
        return self.network.config.pos_embed_max_size

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        said = super()._timesteps(scheduler, sampling)
        if not scheduler.config.get("use_dynamic_shifting"):
            return said
        _, height, width = self.latent_shape(sampling.size)
        patches = (height // self._patch) * (width // self._patch)
        return {**said, "mu": shift_of(scheduler, patches, 1.16)}

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        read = {"encoder_hidden_states": condition.text, "pooled_projections": condition.pooled}
        return network(hidden_states=z, timestep=t, **read).sample
