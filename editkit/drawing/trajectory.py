"""From noise to a picture's latents, step by step: the one denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition

Network = Callable[[Tensor, Tensor, Condition], Tensor]
"""Latents `(rows, channels, h, w)`, training steps `(rows,)` and condition → what the model predicts."""


@dataclass(frozen=True)
class Moment:
    """Latents on their way.

    Attributes:
        z: `(rows, channels, h, w)`, as the network reads them.
        t: `(rows,)`, the training step that they are at; None at the end, where they are clean.
        rows: `(rows,)` on the CPU, which of the trajectories these are.
    """

    z: Tensor
    t: Tensor | None
    rows: Tensor


def trajectory(
    network: Network,
    scheduler: Any,
    noise: Tensor,
    condition: Condition,
    guidance: float | None = None,
    last: Tensor | None = None,
) -> Iterator[Moment]:
    """Every step of the scheduler, before the network is asked, and the end.

    Args:
        scheduler: of diffusers, its timesteps set.
        noise: `(rows, channels, h, w)`, of unit variance.
        condition: one row a trajectory. With guidance two: those that it leads away from, then those that it leads to.
        guidance: scale of classifier-free guidance; None is a single pass without.
        last: `(rows,)` on the CPU, the step at which each trajectory is left, before the network is asked; None runs
            all to the end.
    """
    count, rows = len(noise), torch.arange(len(noise))
    z, read = noise * scheduler.init_noise_sigma, condition
    for step, t in enumerate(scheduler.timesteps):
        given = scheduler.scale_model_input(z, t)
        yield Moment(given, _at(t, given), rows)
        if last is not None and bool((go_on := last[rows] > step).logical_not().any()):
            rows, kept = rows[go_on], go_on.to(z.device)
            if not len(rows):
                return
            z, given = z[kept], given[kept]
            read = condition[(rows if guidance is None else torch.cat([rows, rows + count])).to(z.device)]
        z = scheduler.step(_predicted(network, given, t, read, guidance), t, z).prev_sample
    yield Moment(z, None, rows)


def _predicted(network: Network, z: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
    """`ε(∅) + guidance · (ε(text) − ε(∅))`, in one pass of both."""
    if guidance is None:
        return network(z, _at(t, z), condition)
    both = torch.cat([z, z])
    without, with_text = network(both, _at(t, both), condition).chunk(2)
    return without + guidance * (with_text - without)


def _at(t: Tensor, z: Tensor) -> Tensor:
    return t.expand(len(z)).to(z.device)
