"""Points of the original's trajectories, and the loss of white-box attacks at points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.inverting.points import Points
from editkit.redteam.cost import Cost
from editkit.redteam.target_images import TargetImages
from editkit.redteam.victim import Victim


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
