"""DDIM with as much fresh noise a step as each picture wants (Song et al. 2021, Eq. 12 and 16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editkit.drawing.sampling import Sampling, scheduler_for
from editkit.redteam.shot import Shot


class Step(NamedTuple):
    """As schedulers of diffusers return it."""

    prev_sample: Tensor


@dataclass(frozen=True)
class NoisyDDIM:
    """A scheduler for `trajectory`. `σ = η √var`, above 1 where `1 − ᾱ − σ²` is negative its size is taken
    (Lu et al. 2025, "When are concepts erased", noise probe).

    Attributes:
        ddim: of diffusers, its timesteps set.
        eta, scale: `(rows, 1, 1, 1)`.
        generators: one a row, so that a picture does not depend on its batch.
    """

    ddim: Any
    eta: Tensor
    scale: Tensor
    generators: tuple[torch.Generator, ...]

    @classmethod
    def of(cls, own: Any, steps: int, shots: Sequence[Shot]) -> NoisyDDIM:
        ddim = scheduler_for(own, Sampling(steps, scheduler="ddim"))
        eta, scale = (
            torch.tensor([[[[value]]] for value in values])
            for values in ([shot.eta for shot in shots], [shot.noise_scale for shot in shots])
        )
        generators = tuple(torch.Generator().manual_seed((shot.seed + 1) * 1_000_003) for shot in shots)
        return cls(ddim, eta, scale, generators)

    @property
    def timesteps(self) -> Tensor:
        return self.ddim.timesteps

    @property
    def init_noise_sigma(self) -> float:
        return self.ddim.init_noise_sigma

    def scale_model_input(self, z: Tensor, t: Tensor) -> Tensor:
        return self.ddim.scale_model_input(z, t)

    def step(self, predicted: Tensor, t: Tensor, z: Tensor) -> Step:
        """`√ᾱ_{t-1} x₀ + |1 − ᾱ_{t-1} − σ²|^½ ε + σ · scale · noise`."""
        now, then = levels(self.ddim, int(t))
        x0, noise = parts(self.ddim, predicted, now, z)
        sigma = self.eta.to(z) * ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt()
        fresh = torch.stack([torch.randn(z.shape[1:], generator=each) for each in self.generators]).to(z)
        way = (1 - then - sigma.square()).abs().sqrt()
        return Step(then.sqrt() * x0 + way * noise + sigma * self.scale.to(z) * fresh)


def before(ddim: Any, t: int) -> int:
    """The training step that DDIM goes to from `t`; below 0 is the end."""
    return t - ddim.config.num_train_timesteps // ddim.num_inference_steps


def levels(ddim: Any, t: int) -> tuple[Tensor, Tensor]:
    """ᾱ at `t`, and where DDIM goes from there."""
    then = before(ddim, t)
    return ddim.alphas_cumprod[t], ddim.alphas_cumprod[then] if then >= 0 else ddim.final_alpha_cumprod


def parts(ddim: Any, predicted: Tensor, now: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """x₀, clipped where the model's scheduler clips it, and ε of what the network says of `z` at `ᾱ = now`."""
    config, signal, rest = ddim.config, now.sqrt(), (1 - now).sqrt()
    if config.prediction_type == "sample":
        x0, noise = predicted, (z - signal * predicted) / rest
    elif config.prediction_type == "v_prediction":
        x0, noise = signal * z - rest * predicted, signal * predicted + rest * z
    else:
        x0, noise = (z - rest * predicted) / signal, predicted
    if config.thresholding:
        return ddim._threshold_sample(x0), noise
    return x0.clamp(-config.clip_sample_range, config.clip_sample_range) if config.clip_sample else x0, noise
