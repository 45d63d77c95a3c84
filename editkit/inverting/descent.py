"""Descend a loss in a few vectors, and keep the best that were met on points that no step sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        first, loss, best: the loss of the start; the smallest that was met, and the vectors that have it, float32.
        looked: whether this step was looked at.
        idle: looks since the best one.
        leaves, adam: what the next step begins from; the next step changes both.
    """

    step: int
    first: float
    loss: float
    best: Vectors
    looked: bool
    idle: int
    leaves: Vectors
    adam: torch.optim.AdamW

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for `descend` to go on from."""
        return {
            "step": self.step, "first": self.first, "loss": self.loss, "idle": self.idle, "best": list(self.best),
            "leaves": list(_copied(self.leaves)), "adam": self.adam.state_dict(),
        }  # fmt: skip


def descend(
    start: Sequence[Tensor],
    steps: int,
    rate: float,
    decay: float,
    gradient: Callable[[Vectors], Sequence[Tensor]],
    loss: Callable[[Vectors], float],
    begun: Mapping[str, Any] | None = None,
) -> Iterator[Way]:
    """AdamW from `start`, as far as it is asked to go on: the start, and then every step.

    Args:
        start: `(vectors, width)` each, on the device where they are learned.
        steps: the most.
        rate, decay: of the optimiser.
        gradient: of the loss at fresh points, in each of the vectors.
        loss: on held points; asked at the start, now and then, and at the end.
        begun: the state of a way; its next step is the first that is done.
    """
    from_here = start if begun is None else [each.to(like) for each, like in zip(begun["leaves"], start, strict=True)]
    leaves = tuple(each.float().clone().requires_grad_() for each in from_here)
    adam = torch.optim.AdamW(leaves, lr=rate, weight_decay=decay)
    if begun is None:
        best, idle, done = _copied(leaves), 0, 0
        first = least = loss(best)
    else:
        adam.load_state_dict(begun["adam"])
        best = tuple(each.to(like) for each, like in zip(begun["best"], leaves, strict=True))
        first, least, idle, done = begun["first"], begun["loss"], begun["idle"], begun["step"]
    yield Way(done, first, least, best, True, idle, leaves, adam)
    for n in range(done, steps):
        for leaf, slope in zip(leaves, gradient(leaves), strict=True):
            leaf.grad = slope
        adam.step()
        if looked := looks_at(n, steps) or n == steps - 1:
            now = _copied(leaves)
            found = loss(now)
            idle += 1
            if found < least:
                least, best, idle = found, now, 0
        yield Way(n + 1, first, least, best, looked, idle, leaves, adam)


def _copied(leaves: Sequence[Tensor]) -> Vectors:
    return tuple(leaf.detach().clone() for leaf in leaves)
