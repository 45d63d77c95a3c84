"""Descend a loss in a few vectors, and keep the best that were met on points that no step sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.embeddings.learned import Vectors

LOOKS, APART = 20, 10
"""How often what is learned is looked at on the way at most, and steps between two looks at least."""


def looks_at(step: int, steps: int) -> bool:
    """Whether what is learned is looked at after the step of that number, from 0."""
    return (step + 1) % max(APART, steps // LOOKS) == 0


@dataclass(frozen=True)
class Way:
    """Where a descent is.

    Attributes:
        step: steps done.
        loss, best: the smallest loss that was met, and the vectors that have it, float32.
        looked: whether this step was looked at.
        idle: looks since the best one.
    """

    step: int
    loss: float
    best: Vectors
    looked: bool
    idle: int


def descend(
    start: Sequence[Tensor],
    steps: int,
    rate: float,
    decay: float,
    gradient: Callable[[Vectors], Sequence[Tensor]],
    loss: Callable[[Vectors], float],
) -> Iterator[Way]:
    """AdamW from `start`, as far as it is asked to go on: the start, and then every step.

    Args:
        start: `(vectors, width)` each, on the device where they are learned.
        steps: the most.
        rate, decay: of the optimiser.
        gradient: of the loss at fresh points, in each of the vectors.
        loss: on held points; asked at the start, now and then, and at the end.
    """
    leaves = [each.float().clone().requires_grad_() for each in start]
    adam = torch.optim.AdamW(leaves, lr=rate, weight_decay=decay)
    best, idle = _copied(leaves), 0
    least = loss(best)
    yield Way(0, least, best, True, 0)
    for n in range(steps):
        for leaf, slope in zip(leaves, gradient(tuple(leaves)), strict=True):
            leaf.grad = slope
        adam.step()
        if looked := looks_at(n, steps) or n == steps - 1:
            now = _copied(leaves)
            found = loss(now)
            idle += 1
            if found < least:
                least, best, idle = found, now, 0
        yield Way(n + 1, least, best, looked, idle)


def _copied(leaves: Sequence[Tensor]) -> Vectors:
    return tuple(leaf.detach().clone() for leaf in leaves)
