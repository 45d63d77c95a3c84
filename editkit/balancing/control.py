"""How weights follow from shares: log-odds are integrated, and their slope is learnt as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editkit.balancing.shares import Tally

MOST_STEP = 2.5
"""Log-odds that one step may be meant to change, by the slope as it is known and by that of the beginning: beyond it a
share says little of how far there is to go, and a concept that does not respond is soon no more that concept."""
LEAST_TOLD = 0.25
"""Log-odds that a step must have been meant to change for its outcome to say anything of the slope."""
FASTER = 3.0
"""How many times larger or smaller a slope may be found in one step than it was taken for: counts are noisy."""

PAST = 0.9
"""Of the way to weights that were too much: a step that long is cut to a half."""
CUTS = 2
"""Steps that one such bound may cut. What three quarters of the way do not show, other concepts' weights have changed
since it was found."""


@dataclass
class Bound:
    """Weights that were too much.

    Attributes:
        error: surely to that side; None where the concept was lost.
        cuts: steps that were cut because of it.
    """

    weights: Tensor
    error: Tensor | None = None
    cuts: int = 0

    def stops(self, error: Tensor) -> bool:
        """Whether it holds for one who errs to this side."""
        return self.cuts < CUTS and (self.error is None or float(self.error @ error) < 0)


@dataclass
class Controller:
    """What is known of how the shares of one concept follow its weights `α`.

    The error is `e_t = log q̃_t − log w_t`, centred over the attributes: only what one has more than another counts.
    With the slope `J = ∂e/∂α` a step is `Δα = −J⁺ e`: for `J = I/η` that is `α_t ← α_t + η(log w_t − log q̃_t)`. After
    a step `J` is changed in its direction alone, to what came of it (Broyden 1965): for two attributes the secant.

    Attributes:
        wanted: shares, one an attribute.
        slope: log-odds that a weight of 1 is thought to be worth at first.
    """

    wanted: Sequence[float]
    slope: float
    J: Tensor = field(init=False)
    _last: tuple[Tensor, Tensor] | None = field(default=None, init=False)
    _was_full: bool = field(default=False, init=False)
    _bounds: list[Bound] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        count = len(self.wanted)
        self.J = self.slope * (torch.eye(count, dtype=torch.float64) - 1 / count)

    def step(self, tally: Tally, weights: Tensor) -> Tensor:
        """The next weights, from what `weights` came to: they need not be those that the last step asked for."""
        now = apart(tally, self.wanted)
        bounds = [bound for bound in self._bounds if bound.stops(now)]
        passed = any(bound.error is not None for bound in bounds)
        if self._last is not None and not (passed and self._is_blind(tally)):
            self._learn(weights - self._last[0], now - self._last[1])
        self._last, self._was_full = (weights, now), max(tally.counts) == tally.judged
        if not tally.allows(self.wanted):
            self._bounds.append(Bound(weights, now))
        aimed = now * min(1.0, MOST_STEP / float(now.abs().max().clamp(min=1e-12)))
        move = -torch.linalg.pinv(self.J, rtol=1e-6) @ aimed
        move = move * min(1.0, MOST_STEP / (self.slope * float(move.abs().max().clamp(min=1e-12))))
        return weights + _not_past(move - move.mean(), weights, bounds)

    def lost(self, weights: Tensor) -> None:
        """With these weights the concept is drawn no more; what was counted says nothing but that it was too far."""
        self._bounds.append(Bound(weights))

    def forget(self) -> None:
        """Others' weights have changed: what came of the last step, and what was too much, says nothing any more."""
        self._last, self._bounds = None, []

    def _is_blind(self, tally: Tally) -> bool:
        """Whether all pictures had one attribute, twice: that tells a side and no slope."""
        return self._was_full and max(tally.counts) == tally.judged

    def _learn(self, moved: Tensor, changed: Tensor) -> None:
        size = float(moved @ moved)
        foreseen = self.J @ moved
        if size == 0 or float(foreseen.abs().max()) < LEAST_TOLD:
            return
        thought, found = float(moved @ foreseen) / size, float(moved @ changed) / size
        trusted = min(max(found, thought / FASTER), thought * FASTER)
        changed = changed + (trusted - found) * moved
        self.J = self.J + torch.outer(changed - foreseen, moved) / size


def _not_past(move: Tensor, weights: Tensor, bounds: Sequence[Bound]) -> Tensor:
    """A step that leads past weights that were too much goes half of the way to them instead: those whose error was
    surely the opposite one, and those that lost the concept."""
    for bound in bounds:
        way = bound.weights - weights
        size = float(way @ way)
        if size > 0 and (reach := float(move @ way) / size) > PAST:
            move = move * (0.5 / reach)
            bound.cuts += 1
    return move


def apart(tally: Tally, wanted: Sequence[float]) -> Tensor:
    """`e_t = log q̃_t − log w_t`, centred, `(attributes,)`."""
    logs = torch.tensor(tally.smoothed, dtype=torch.float64).log()
    error = logs - torch.tensor(list(wanted), dtype=torch.float64).log()
    return error - error.mean()
