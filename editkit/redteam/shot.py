"""One picture of an attempt: what it starts from and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Shot:
    """One picture to draw. The defaults draw as the model is used.

    Attributes:
        seed: of the noise that it starts from.
        noise: `(channels, h, w)` in place of it.
        handover: how many steps the original draws before the attacked model goes on.
        eta: DDIM's η: 0 is deterministic, 1 as much noise as DDPM.
        noise_scale: factor of that noise.
        prompted: False: the attacked model reads the empty prompt; steps that the original draws are not touched by it.
    """

    seed: int
    noise: Tensor | None = None
    handover: int = 0
    eta: float = 0.0
    noise_scale: float = 1.0
    prompted: bool = True
