"""AuraFlow."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.transformer import TransformerDenoiser


class AuraFlow(TransformerDenoiser):
    """AuraFlow: T5's rows, those of padding zeros, which no map moves."""

    families: ClassVar[tuple[str, ...]] = ("auraflow",)
    pipelines: ClassVar[tuple[str, ...]] = ("AuraFlowPipeline",)

    def _prompt(self, text: str) -> Condition:
        return Condition(self.pipe.encode_prompt(text, None, False, device=self.device)[0])

    def _most_patches(self) -> int:
        return math.isqrt(self.network.config.pos_embed_max_size)

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return network(z, encoder_hidden_states=condition.text, timestep=t / 1000).sample
