"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.variant import TextStream
from editkit.errors import EditkitError
from editkit.model.apply import projection_names
from editkit.model.checkpoints.source import Source
from editkit.model.pipeline import check_text_to_image, load
from editkit.model.quiet import errors_only


def unet_output(network: Any, z: Tensor, t: Tensor, condition: Condition, **more: Any) -> Tensor:
    """What a UNet, or whatever is called like one, says of latents; `more` are further arguments of it."""
    return network(z, t, condition.text, encoder_attention_mask=condition.mask, **more).sample.to(z.dtype)


class StableDiffusion:
    """Stable Diffusion 1.x and 2.x: a UNet that reads the last states of one CLIP encoder."""

    families: ClassVar[tuple[str, ...]] = ("sd1", "sd2")

    def __init__(self, pipe: Any, /) -> None:
        self.pipe = pipe

    @classmethod
    def check(cls, source: Source, /) -> None:
        check_text_to_image(source)

    @classmethod
    def open(cls, source: Source, device: str, /) -> StableDiffusion:
        return cls(load(source, device))

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def scheduler(self) -> Any:
        return self.pipe.scheduler

    @property
    def device(self) -> torch.device:
        return self.pipe.device

    @cached_property
    def streams(self) -> Mapping[str, TextStream]:
        return {stream: TextStream(names, self._width(stream)) for stream, names in projection_names(self.pipe).items()}

    def _width(self, stream: str) -> int:
        return self.network.config.cross_attention_dim

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: str | None = None) -> tuple[list[Condition], Condition | None]:
        texts = list(dict.fromkeys(prompts if negative is None else [*prompts, negative]))
        with errors_only():  # who draws is told of cut prompts once, by `editkit.drawing.truncation`
            known = dict(zip(texts, self._encoded(texts), strict=True))
        return [known[prompt] for prompt in prompts], None if negative is None else known[negative]

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

    def predict(self, z: Tensor, t: Tensor, condition: Condition, network: Any = None) -> Tensor:
        return unet_output(self.network if network is None else network, z, t, condition)

    def decode(self, z: Tensor) -> Tensor:
        return self.pipe.vae.decode(z / self.pipe.vae.config.scaling_factor).sample

    def latents_of(self, pixels: Tensor) -> Tensor:
        coded = self.pipe.vae.encode(pixels.to(self.device)).latent_dist.mode()
        return coded.float() * self.pipe.vae.config.scaling_factor

    def copied(self) -> StableDiffusion:
        pipe = copy.copy(self.pipe)
        pipe.unet = copy.deepcopy(pipe.unet)
        return type(self)(pipe)
