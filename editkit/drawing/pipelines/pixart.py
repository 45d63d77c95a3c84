"""PixArt-α, PixArt-Σ and Sana: cross-attention behind one caption projection."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser


class PixArt(TransformerDenoiser):
    """PixArt-α and PixArt-Σ: T5's rows. The network may predict a variance, too, which is not drawn with. Pictures are
    drawn at the size that is asked for, and not at the nearest that it was trained with."""

    families: ClassVar[tuple[str, ...]] = ("pixart",)
    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline", "PixArtAlphaPipeline")
    reads_masks: ClassVar[bool] = True

    def _prompt(self, text: str) -> Condition:
        rows, mask, *_ = self.pipe.encode_prompt(text, False, device=self.device, **self._how)
        return Condition(rows, mask=mask)

    @property
    def _how(self) -> dict[str, Any]:
        """What the pipeline's call encodes with, and its `encode_prompt` alone does not."""
        return {"clean_caption": self._default("clean_caption")}

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.network.use_additional_conditions:  # PixArt-α of 1024 pixels
            height, width = (side * self.pipe.vae_scale_factor for side in z.shape[-2:])
            resolution = torch.tensor([[height, width]]).to(z).expand(len(z), -1)
            sizes = {"resolution": resolution, "aspect_ratio": resolution[:, :1] / resolution[:, 1:]}
        said = network(
            z,
            encoder_hidden_states=condition.text,
            encoder_attention_mask=condition.mask,
            timestep=t,
            added_cond_kwargs=sizes,
        ).sample
        return said[:, : z.shape[1]]


class Sana(PixArt):
    """Sana: rows of Gemma 2, with long instructions before a prompt and none before a negative one."""

    families: ClassVar[tuple[str, ...]] = ("sana",)
    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)

    def _unprompt(self, text: str) -> Condition:
        *_, rows, mask = self.pipe.encode_prompt("", True, text, device=self.device, **self._how)
        return Condition(rows, mask=mask)

    @property
    def _how(self) -> dict[str, Any]:
        return super()._how | {"complex_human_instruction": self._default("complex_human_instruction")}

    @property
    def _usual_side(self) -> int:
        """What it was trained for: its pipeline's call says 1024 for all."""
        return self.network.config.sample_size * self.pipe.vae_scale_factor

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        said = network(
            z,
            encoder_hidden_states=condition.text,
            encoder_attention_mask=condition.mask,
            timestep=t * self.network.config.timestep_scale,
        ).sample
        return said[:, : z.shape[1]]

    def _coded(self, pixels: Tensor) -> Tensor:
        return self.pipe.vae.encode(pixels).latent
