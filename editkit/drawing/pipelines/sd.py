"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from editkit.drawing.pipelines.base import PipelineDenoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.pipeline import check_text_to_image


def unet_output(network: Any, z: Tensor, t: Tensor, condition: Condition, **more: Any) -> Tensor:
    """What a UNet, or whatever is called like one, says of latents, in their dtype; `more` are further arguments."""
    return network(z, t, condition.text, encoder_attention_mask=condition.mask, **more).sample.to(z.dtype)


class StableDiffusion(PipelineDenoiser):
    """Stable Diffusion 1.x and 2.x: a UNet that reads the last states of one CLIP encoder."""

    families: ClassVar[tuple[str, ...]] = ("sd1", "sd2")
    decodes_singly: ClassVar[bool] = False

    @classmethod
    def check(cls, source: Source, /) -> None:
        check_text_to_image(source)

    def _width(self, stream: str, names: Sequence[str]) -> int:
        return self.network.config.cross_attention_dim

    def encode(self, prompts: Sequence[str], negative: str | None = None) -> tuple[list[Condition], Condition | None]:
        """All in one pass, what guidance leads away from among them."""
        if negative is None:
            return super().encode(prompts)
        *rows, away = super().encode([*prompts, negative])[0]
        return rows, away

    def _encoded(self, texts: list[str]) -> list[Condition]:
        rows = self.pipe.encode_prompt(texts, self.device, 1, False)[0]
        return [Condition(row[None]) for row in rows]

    def latent_shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        config = self.network.config
        if size is None:
            return config.in_channels, config.sample_size, config.sample_size
        factor = self.pipe.vae_scale_factor
        whole = factor * 2 ** (len(config.block_out_channels) - 1)
        if any(side < whole or side % whole for side in size):
            raise EditkitError(f"--size: expected multiples of {whole} for this model, got {size[1]}x{size[0]}")
        return config.in_channels, size[0] // factor, size[1] // factor

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return unet_output(network, z, t, condition)
