"""Noisy latents of pictures with what a model is to say of them: what vectors are learned and compared on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from editkit.tuning.levels import with_noise

SCALE = 4096.0
"""Of the loss before gradients: those of a mean over latents would vanish in half precision."""


@dataclass(frozen=True)
class Points:
    """Latents `z` `(k, channels, h, w)` at the training steps `t` `(k,)`, and what is `wanted` there, in the shape of
    `z`.

    Attributes:
        weight: how much each place counts, `(k, 1, h, w)`; None: all alike.
    """

    z: Tensor
    t: Tensor
    wanted: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: Tensor) -> Points:
        weight = None if self.weight is None else self.weight[rows]
        return Points(self.z[rows], self.t[rows], self.wanted[rows], weight)

    def missed(self, said: Tensor) -> Tensor:
        """Mean square difference of what a model says, `(k, channels, h, w)`, from what is wanted: `(k,)`. Places of
        weight 0 do not count, whatever is said there."""
        far = (said - self.wanted).square()
        if self.weight is None:
            return far.flatten(1).mean(1)
        return (self.weight * far).flatten(1).sum(1) / self.weight.expand_as(far).flatten(1).sum(1)


class PointSource(Protocol):
    """Where points come from."""

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        """One at each of the training steps `t` `(k,)`."""
        ...


@dataclass(frozen=True)
class NoisyPictures:
    """Clean latents `(n, channels, h, w)` with fresh noise; wanted is that noise, or what the model was trained to say
    in its place: its velocity.

    Attributes:
        stays: what counts of each picture, `(n, 1, h, w)` from 0 to 1; None: all of it.
    """

    clean: Tensor
    scheduler: Any
    stays: Tensor | None = None

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        which = torch.randint(len(self.clean), (len(t),), generator=generator)
        fresh = torch.randn((len(t), *self.clean.shape[1:]), generator=generator).to(self.clean)
        t = t.to(self.clean.device)
        which = which.to(t.device)
        z, wanted = with_noise(self.scheduler, self.clean[which], fresh, t)
        return Points(z, t, wanted, None if self.stays is None else self.stays[which])


def any_times(count: int, last: int, generator: torch.Generator) -> Tensor:
    """`(count,)` training steps below `last`, uniform."""
    return torch.randint(last, (count,), generator=generator)


def even_times(count: int, last: int) -> Tensor:
    """`(count,)` training steps below `last`, the middles of as many equal parts.

    >>> even_times(50, 1000)[:3].tolist()
    [10, 30, 50]
    """
    return ((torch.arange(count) + 0.5) * last / count).long()


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """Of the sum of `value` in `leaf`."""
    return gradients(value, [leaf])[0]


def gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Of the sum of `value` in each of the leaves; zeros where it does not depend on one."""
    scaled = torch.autograd.grad(value.sum() * SCALE, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each / SCALE for leaf, each in zip(leaves, scaled, strict=True)]
