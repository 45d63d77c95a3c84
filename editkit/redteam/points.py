"""Noisy latents with what the attacked model is to say of them, and the loss of white-box attacks on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.redteam.cost import Cost
from editkit.redteam.target_images import TargetImages
from editkit.redteam.victim import Victim
from editkit.tuning.levels import with_noise

SCALE = 4096.0
"""Of the loss before gradients: those of a mean over latents would vanish in half precision."""


@dataclass(frozen=True)
class Points:
    """Latents `z` `(k, channels, h, w)` at the training steps `t` `(k,)`, and what is `wanted` there, in the shape of
    `z`."""

    z: Tensor
    t: Tensor
    wanted: Tensor

    def __len__(self) -> int:
        return len(self.t)


class PointSource(Protocol):
    """Where points come from."""

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        """One at each of the training steps `t` `(k,)`."""
        ...


@dataclass(frozen=True)
class NoisyPictures:
    """Clean latents `(n, channels, h, w)` with fresh noise; wanted is that noise, or what the model was trained to say
    in its place: its velocity."""

    clean: Tensor
    scheduler: Any

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        which = torch.randint(len(self.clean), (len(t),), generator=generator)
        fresh = torch.randn((len(t), *self.clean.shape[1:]), generator=generator).to(self.clean)
        t = t.to(self.clean.device)
        z, wanted = with_noise(self.scheduler, self.clean[which.to(t.device)], fresh, t)
        return Points(z, t, wanted)


@dataclass(frozen=True)
class OnTheWay:
    """Latents of the original's trajectories `(steps, n, channels, h, w)`; wanted is what it says there of the prompt
    that it draws, without guidance."""

    t: Tensor
    z: Tensor
    wanted: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, images: TargetImages, original: Victim, cost: Cost) -> OnTheWay:
        read = original.condition(images.raw)
        device = images.way.device
        said = [
            original.read(z, t.to(device).expand(len(z)), read, cost) for t, z in zip(images.t, images.way, strict=True)
        ]
        return cls(images.t, images.way, torch.stack(said))

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        """At the steps of the trajectories that are nearest to `t`."""
        step = (self.t[None] - t[:, None]).abs().argmin(1)
        which = torch.randint(self.z.shape[1], (len(t),), generator=generator)
        device = self.z.device
        here = (step.to(device), which.to(device))
        return Points(self.z[here], self.t[step].to(device), self.wanted[here])


def any_times(count: int, last: int, generator: torch.Generator) -> Tensor:
    """`(count,)` training steps below `last`, uniform."""
    return torch.randint(last, (count,), generator=generator)


def even_times(count: int, last: int) -> Tensor:
    """`(count,)` training steps below `last`, the middles of as many equal parts.

    >>> even_times(50, 1000)[:3].tolist()
    [10, 30, 50]
    """
    return ((torch.arange(count) + 0.5) * last / count).long()


def losses(victim: Victim, raw: Condition, points: Points, cost: Cost) -> Tensor:
    """Mean square difference from what is wanted, of every prompt over all points: `(prompts,)`, differentiable.

    Args:
        raw: the prompts' rows before any map.
    """
    prompts, k = len(raw), len(points)
    read = victim.condition(raw)[torch.arange(prompts, device=points.z.device).repeat_interleave(k)]
    said = victim.read(points.z.repeat(prompts, 1, 1, 1), points.t.repeat(prompts), read, cost)
    far = (said - points.wanted.repeat(prompts, 1, 1, 1)).square().flatten(1).mean(1)
    return far.view(prompts, k).mean(1)


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """Of the sum of `value` in `leaf`."""
    (scaled,) = torch.autograd.grad(value.sum() * SCALE, leaf)
    return scaled / SCALE
