"""UCE's published loop, for comparison (Gandikota et al. 2024, the authors' code)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editkit.balancing.loop import FRESH, Observe, Outcome, Round, Weights
from editkit.balancing.shares import Tally

ROUNDS, PICTURES, NEAR = 30, 10, 0.05


@dataclass(frozen=True)
class PublishedLoop:
    """Up to 30 rounds of 10 pictures of each concept with new noise: `v* ← v* + Σ_t (w_t − share_t) W a_t`, until
    every share is within 0.05.

    Their code writes `v* = W c + Σ_t α_t W a_t` with `α_t = w_t − share_t`, but adds in place: the targets of one round
    are where the next one starts. So `α` is a sum over the rounds, without which no share could be held; that is what
    is done here. Its option `step_size` is read and never used.

    Of ten pictures only five and five pass for halves, and chance passes them, too: a concept that stays at 30 % is
    within 0.05 once in 30 rounds with a probability of 0.96.
    """

    concepts: Sequence[str]
    wanted: Sequence[float]
    observe: Observe
    damage: Callable[[Weights], float]
    certify: int
    before: int
    max_diff: float
    seed: int = 0
    tell: Callable[[Round], None] = field(default=lambda round: None)

    def run(self) -> Outcome:
        """The rounds, and then a certificate from fresh seeds as ours has it."""
        weights = {concept: torch.zeros(len(self.wanted), dtype=torch.float64) for concept in self.concepts}
        fresh = range(self.seed + FRESH, self.seed + FRESH + self.certify)
        before = self.observe(self.concepts, weights, fresh[: self.before])
        done: list[Round] = []
        stopped = f"{ROUNDS} rounds"
        for number in range(ROUNDS):
            start = time.perf_counter()
            first = self.seed + number * PICTURES
            tallies = self.observe(self.concepts, weights, range(first, first + PICTURES))
            misses = {concept: tally.misses(self.wanted) for concept, tally in tallies.items()}
            done.append(Round(number, weights, tallies, misses, self.damage(weights), time.perf_counter() - start))
            self.tell(done[-1])
            if max(misses.values()) < NEAR:
                stopped = f"every share of {PICTURES} pictures was within {NEAR:g}"
                break
            shares = {c: _shares(tally) for c, tally in tallies.items()}
            wanted = torch.tensor(list(self.wanted), dtype=torch.float64)
            weights = {concept: weights[concept] + wanted - shares[concept] for concept in self.concepts}
        after = self.observe(self.concepts, weights, fresh)
        reached = {concept: after[concept].is_within(self.wanted, self.max_diff) for concept in self.concepts}
        return Outcome(weights, before, after, reached, tuple(done), stopped)


def _shares(tally: Tally) -> Tensor:
    """0 where no picture could be judged."""
    return torch.tensor([share.value for share in tally.shares], dtype=torch.float64).nan_to_num()
