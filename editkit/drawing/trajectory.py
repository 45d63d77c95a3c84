"""From noise to a picture's latents, step by step: the one denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.guards import Guided

Network = Callable[[Tensor, Tensor, Condition], Tensor]
"""Latents `(rows, channels, h, w)`, training steps `(rows,)` and condition → what the model predicts."""


def classifier_free(without: Tensor, with_text: Tensor, scale: float) -> Tensor:
    """`ε(∅) + scale · (ε(text) − ε(∅))` (Ho and Salimans 2022, in the pipelines' notation).

    >>> classifier_free(torch.tensor(1.0), torch.tensor(2.0), 7.5)
    tensor(8.5000)
    """
    return without + scale * (with_text - without)


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
    guided: Guided = classifier_free,
    passes: int = 2,
) -> Iterator[Moment]:
    """Every step of the scheduler, before the network is asked, and the end.

    Args:
        scheduler: of diffusers, its timesteps set.
        noise: `(rows, channels, h, w)`, of unit variance.
        condition: one row a trajectory. With guidance two: those that it leads away from, then those that it leads to.
        guidance: scale of classifier-free guidance; None is a single pass without.
        last: `(rows,)` on the CPU, the step at which each trajectory is left, before the network is asked; None runs
            all to the end.
        guided: how the model's pipeline guides.
        passes: with guidance, prompts of each trajectory: those beyond two are a guard's.
    """
    count, rows = len(noise), torch.arange(len(noise))
    # Schedulers of flow matching have neither: their latents are noise of unit variance, read as they are.
    scale = getattr(scheduler, "scale_model_input", lambda z, t: z)
    z, read = noise * getattr(scheduler, "init_noise_sigma", 1.0), condition
    for step, t in enumerate(scheduler.timesteps):
        given = scale(z, t)
        yield Moment(given, _at(t, given), rows)
        if last is not None and bool((go_on := last[rows] > step).logical_not().any()):
            rows, kept = rows[go_on], go_on.to(z.device)
            if not len(rows):
                return
            z, given = z[kept], given[kept]
            each = torch.cat([rows + n * count for n in range(1 if guidance is None else passes)])
            read = condition[each.to(z.device)]
        said = _predicted(network, given, t, read, guidance, guided, passes)
        z = scheduler.step(said, t, z).prev_sample
    yield Moment(z, None, rows)


def _predicted(
    network: Network, z: Tensor, t: Tensor, condition: Condition, guidance: float | None, guided: Guided, passes: int
) -> Tensor:
    """With guidance all in one pass."""
    if guidance is None:
        return network(z, _at(t, z), condition)
    every = torch.cat([z] * passes)
    return guided(*network(every, _at(t, every), condition).chunk(passes), guidance)


def _at(t: Tensor, z: Tensor) -> Tensor:
    return t.expand(len(z)).to(z.device)
