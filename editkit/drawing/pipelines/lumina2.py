"""Lumina-Image 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser, falling, shift_of
from editkit.drawing.sampling import Sampling


class Lumina2(TransformerDenoiser):
    """Lumina-Image 2: rows of Gemma 2 with instructions before a prompt. Its time runs from noise to picture, and what
    guidance makes is brought back to the length of what the prompt alone makes."""

    families: ClassVar[tuple[str, ...]] = ("lumina2",)
    pipelines: ClassVar[tuple[str, ...]] = ("Lumina2Pipeline",)
    shifted: ClassVar[bool] = True
    reads_masks: ClassVar[bool] = True

    def _prompt(self, text: str) -> Condition:
        rows, mask, *_ = self.pipe.encode_prompt(text, False, device=self.device)
        return Condition(rows, mask=mask)

    def _unprompt(self, text: str) -> Condition:
        *_, rows, mask = self.pipe.encode_prompt("", True, text, device=self.device)
        return Condition(rows, mask=mask)

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        # Its pipeline takes the channels of the latents for the length of their sequence.
        return {"sigmas": falling(sampling.steps), "mu": shift_of(scheduler, self._channels)}

    def guided(self, without: Tensor, with_text: Tensor, scale: float) -> Tensor:
        return as_long(super().guided(without, with_text, scale), with_text)

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        mask = condition.text.new_ones(condition.text.shape[:2]) if condition.mask is None else condition.mask
        said = network(
            hidden_states=z,
            timestep=1 - t / self.scheduler.config.num_train_timesteps,
            encoder_hidden_states=condition.text,
            encoder_attention_mask=mask.bool(),
        ).sample
        return -said


def as_long(guided: Tensor, with_text: Tensor) -> Tensor:
    """`guided`, its vectors along the last dimension as long as those of `with_text`."""
    return guided * (with_text.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
