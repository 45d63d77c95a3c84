"""FLUX.1 and Chroma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser, in_a_row, in_a_square, shift_of, shifted_times
from editkit.drawing.sampling import Sampling


class _Rowed(TransformerDenoiser):
    """Latents go in as squares of four in a row; what else the network reads is a kind's own."""

    patched: ClassVar[int] = 4
    shifted: ClassVar[bool] = True

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        _, height, width = self.latent_shape(sampling.size)
        return shifted_times(scheduler, sampling.steps, shift_of(scheduler, (height // 2) * (width // 2)))

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        height, width = z.shape[-2:]
        said = network(
            hidden_states=in_a_row(z),
            timestep=t / 1000,
            encoder_hidden_states=condition.text,
            txt_ids=torch.zeros(condition.text.shape[1], 3, device=z.device),
            img_ids=self.pipe._prepare_latent_image_ids(len(z), height // 2, width // 2, z.device, z.dtype),
            **self._more(z, condition),
        ).sample
        return in_a_square(said, height, width)

    def _more(self, z: Tensor, condition: Condition) -> dict[str, Any]:
        """What the network reads beside the rows of the prompt."""
        raise NotImplementedError


class Flux(_Rowed):
    """FLUX.1: T5's rows and CLIP's pooled vector. Its guidance is distilled into the network of `dev`, which reads the
    scale; classifier-free guidance beside it is `Sampling.true_cfg`."""

    families: ClassVar[tuple[str, ...]] = ("flux1",)
    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)

    def _prompt(self, text: str) -> Condition:
        rows, pooled, _ = self.pipe.encode_prompt(text, None, device=self.device)
        return Condition(rows, pooled)

    def _window(self) -> tuple[Any, int]:
        return self.pipe.tokenizer_2, self._default("max_sequence_length")

    def away(self, sampling: Sampling) -> float | None:
        return sampling.true_cfg if sampling.true_cfg > 1 else None

    def _more(self, z: Tensor, condition: Condition) -> dict[str, Any]:
        scale = None
        if self.network.config.guidance_embeds:
            usual = torch.full((len(z),), float(self._default("guidance_scale")))
            scale = (usual if condition.scale is None else condition.scale).to(z.device)
        return {"guidance": scale, "pooled_projections": condition.pooled}


class Chroma(_Rowed):
    """Chroma: FLUX.1's network without a pooled vector, its guidance classifier-free."""

    families: ClassVar[tuple[str, ...]] = ("chroma",)
    pipelines: ClassVar[tuple[str, ...]] = ("ChromaPipeline",)
    reads_masks: ClassVar[bool] = True

    def _prompt(self, text: str) -> Condition:
        rows, _, mask, *_ = self.pipe.encode_prompt(text, device=self.device, do_classifier_free_guidance=False)
        return Condition(rows, mask=mask)

    def _more(self, z: Tensor, condition: Condition) -> dict[str, Any]:
        if condition.mask is None:
            return {}
        patches = (z.shape[-2] // 2) * (z.shape[-1] // 2)
        # Numbers and not truth values: its pipeline adds them to the attention, so that padding is read, only less.
        mask = self.pipe._prepare_attention_mask(len(z), patches, z.dtype, condition.mask.to(z.dtype))
        return {"attention_mask": mask}
