"""An anchor: trained weights are pulled back to where the run began, all alike or the more the more they matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.tuning.latents import Points
from editkit.tuning.processes import as_shared, whole

ANCHORS = ("none", "l2", "fisher")
RULES = ("always", "conflict")
POINTS = 200
"""Points that the Fisher information is a mean over."""

Weights = Mapping[str, Tensor]


@dataclass
class Anchor:
    """`½ λ Σ_i F_i (θ_i − θ_i⁰)²`, added to a loss as its gradient `λ F (θ − θ⁰)`, where `θ⁰` is the run's start.

    With `F = 1` that is the anchor of AEGIS (2026, arXiv 2602.06771, second-hand), with the diagonal of the Fisher
    information elastic weight consolidation (Kirkpatrick et al. 2017, Eq. 3, https://arxiv.org/abs/1612.00796), which
    Selective Amnesia (Heng and Soh 2023, https://arxiv.org/abs/2305.10120) erases with. `F` is divided by its mean
    here, so that one λ means as much for both.

    Attributes:
        start: `θ⁰` by name.
        strength: λ.
        on_conflict: whether the pull `r = F (θ − θ⁰)` counts only where it disagrees with the gradient `g` of the loss,
            `⟨g, r⟩ < 0`, and then with `λ = −ω ⟨g, r⟩ / ‖r‖²`, where ω grows from 0 to λ over the run: AEGIS's rule.
            With ω = 1 the sum has no part along `r`: a step no longer leads away from the start.
        measure: computes `F` when it is first needed; None where it is 1.
        importance: `F` by name, once it is known.
    """

    start: Weights
    strength: float
    on_conflict: bool = False
    measure: Callable[[], dict[str, Tensor]] | None = None
    importance: dict[str, Tensor] = field(default_factory=dict)

    def ready(self) -> None:
        """Compute `F` if it is not known: before the first step, while the weights are those of the start."""
        if self.measure is not None and not self.importance:
            self.importance = self.measure()

    @torch.no_grad()
    def pull(self, weights: Weights, share: float) -> None:
        """Add to the gradients of `weights`; `share` of the run is over."""
        if not self.on_conflict:
            for weight, away in self._away(weights):
                _add(weight, self.strength * away)
            return
        steps = [(weight, away, weight.grad) for weight, away in self._away(weights) if weight.grad is not None]
        along = sum(float(whole((away * grad).sum())) for _, away, grad in steps)
        size = sum(float(whole(away.square().sum())) for _, away, _ in steps)
        if along < 0 and size > 0:
            for weight, away, _ in steps:
                _add(weight, -self.strength * share * along / size * away)

    def _away(self, weights: Weights) -> Iterator[tuple[Tensor, Tensor]]:
        """`F (θ − θ⁰)` of every weight."""
        for name, begun in self.start.items():
            away = weights[name] - begun
            yield weights[name], away * self.importance[name] if name in self.importance else away

    def state_dict(self) -> dict[str, Any]:
        return {name: whole(value).cpu() for name, value in self.importance.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.importance = {name: as_shared(value, self.start[name]) for name, value in state.items()}


def _add(weight: Tensor, gradient: Tensor) -> None:
    weight.grad = gradient.to(weight) if weight.grad is None else weight.grad.add_(gradient.to(weight))


def fisher(weights: Weights, points: Points, loss: Callable[[Points], Tensor]) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information, divided by its mean: of every weight the mean over the points
    of its squared gradient.

    A prediction is taken for the mean of a normal distribution of variance 1, whose log-density is
    `−½ ‖ε'(z_t, c) − ε‖²`. Squares are summed point by point; the authors of Selective Amnesia square a sum over all
    steps of a picture.

    Args:
        weights: by name; their gradients are empty before and afterwards.
        points: noised pictures of what is to be kept.
        loss: `½ ‖ε'(z_t, c) − ε‖²` of one point.
    """
    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    for n in range(len(points)):
        gradients = torch.autograd.grad(loss(points[n : n + 1]), list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.float().square()
    mean = sum(float(value.sum()) for value in total.values()) / sum(value.numel() for value in total.values())
    return {name: value / mean if mean else value + 1 for name, value in total.items()}
