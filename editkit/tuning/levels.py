"""How noisy latents are at a training step, and how what a model predicts of them tells their picture.

Every model is trained on `z_t = α x₀ + σ ε`. Diffusion has `α² = ᾱ_t`, `α² + σ² = 1`; flow matching has `α + σ = 1`,
`σ = t / T`. At given z_t and t, each thing that is predicted is affine in the picture, `x₀ = a z_t + b · prediction`:

    ε               x₀ = (z − σ ε) / α      b = −σ/α
    v = α ε − σ x₀  x₀ = α z − σ v          b = −σ
    u = ε − x₀      x₀ = z − σ u            b = −σ      a flow's velocity

So all are affine in each other, and a target `Σ wᵢ predictionᵢ` with `Σ wᵢ = 1` is the same target in each: `a z_t` is
counted once. A squared distance between two predictions is `1 / b²` of that between the pictures that they tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from editkit.drawing.sampling import is_flow

FLOW = "flow"


@dataclass(frozen=True)
class Levels:
    """What latents are made of.

    Attributes:
        alpha, sigma: parts of picture and noise, `(rows,)`.
        predicts: `epsilon`, `v_prediction`, `sample` or `flow`.
    """

    alpha: Tensor
    sigma: Tensor
    predicts: str

    @classmethod
    def at(cls, scheduler: Any, t: Tensor) -> Levels:
        """At the training steps `t` `(rows,)` of a scheduler of diffusers."""
        if is_flow(scheduler):
            sigma = t / scheduler.config.num_train_timesteps
            return cls(1 - sigma, sigma, FLOW)
        kept = scheduler.alphas_cumprod.to(t.device)[t.long()]
        return cls(kept.sqrt(), (1 - kept).sqrt(), scheduler.config.prediction_type)

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """`z_t`, `(rows, channels, h, w)`."""
        alpha, sigma = self._wide(clean)
        return alpha * clean + sigma * noise

    def wanted(self, clean: Tensor, noise: Tensor) -> Tensor:
        """What a model should say of it, `(rows, channels, h, w)`."""
        alpha, sigma = self._wide(clean)
        if self.predicts == FLOW:
            return noise - clean
        if self.predicts == "v_prediction":
            return alpha * noise - sigma * clean
        return clean if self.predicts == "sample" else noise

    @property
    def as_pictures(self) -> Tensor:
        """`b²`, `(rows,)`: turns a squared distance of predictions into one of pictures."""
        if self.predicts == "sample":
            return self.sigma * 0 + 1
        return (self.sigma / self.alpha if self.predicts == "epsilon" else self.sigma).square()

    def _wide(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.alpha.to(like)[:, None, None, None], self.sigma.to(like)[:, None, None, None]


def with_noise(scheduler: Any, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Clean latents at the training steps `t` `(rows,)`, and what a model should say of them."""
    levels = Levels.at(scheduler, t)
    return levels.noised(clean, noise), levels.wanted(clean, noise)
