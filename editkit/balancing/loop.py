"""The rounds of one balancing: draw, count, step, with more pictures as the shares come nearer; then certify afresh."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.balancing.control import Controller, apart
from editkit.balancing.shares import Tally

Weights = Mapping[str, Tensor]
"""Concept → how much of each attribute is asked for."""
Observe = Callable[[Sequence[str], Weights, Sequence[int]], Mapping[str, Tally]]
"""Draws some of the concepts, edited with all of the weights, one picture a seed, and counts. Weights of 0 are the
unedited model."""
FRESH = 100_000
"""Seeds of the certificate begin that far behind those of the rounds."""
PATIENCE = 5
"""Rounds in which a concept may come no nearer before it is left where it was nearest."""
LEAST_SHARE = 0.01
"""Of a step that the damage leaves over: below it there is nothing left to go."""


@dataclass(frozen=True)
class Round:
    """One round: what was drawn with which weights, and what came of it."""

    number: int
    weights: Weights
    tallies: Mapping[str, Tally]
    misses: Mapping[str, float]
    damage: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "number": self.number,
            "concepts": {
                concept: {"weights": listed(self.weights[concept]), **tally.as_dict()}
                for concept, tally in self.tallies.items()
            },
            "damage_worst": round(self.damage, 6),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Outcome:
    """What a balancing came to.

    Attributes:
        before, after: of fresh seeds, without the edit and with it.
        reached: concept → whether every share is surely as near to the wanted one as asked.
        stopped: why the rounds ended.
    """

    weights: Weights
    before: Mapping[str, Tally]
    after: Mapping[str, Tally]
    reached: Mapping[str, bool]
    rounds: tuple[Round, ...]
    stopped: str


@dataclass
class State:
    """Where a concept is.

    Attributes:
        before: what the unedited model draws.
        best: `(−stage, how far it missed, weights)`.
        good: the last weights with which the concept was still drawn.
        drawn_at: the last round that drew it.
        best_at: the round of `best`.
        is_given_up: it came no nearer in `PATIENCE` rounds.
    """

    controller: Controller
    before: Tally
    good: Tensor
    stage: int = 0
    is_settled: bool = False
    drawn_at: int = 0
    best: tuple[int, float, Tensor] | None = None
    best_at: int = 0
    is_given_up: bool = False

    @property
    def is_moving(self) -> bool:
        """Whether it is drawn in the next round."""
        return not self.is_settled and not self.is_given_up

    def look_again(self, number: int) -> None:
        """In that round: what it was settled with is no more what it is drawn with, since others have stepped."""
        self.is_settled, self.best, self.best_at = False, None, number
        self.controller.forget()


@dataclass(frozen=True)
class Loop:
    """The rounds. Every round draws the same seeds, so that two differ by the weights and not by the noise.

    A concept that is settled is not drawn again before none moves. What the others stepped meanwhile moved it, too: it
    is then looked at once more, and steps again if it has to. One that comes no nearer goes back to where it was
    nearest and stays there: it would keep the settled ones from their second look.

    Attributes:
        wanted: shares, one an attribute.
        observe: see `Observe`.
        begin: called once with the direction of the first step, where the edit is solved; gives concept → log-odds that
            a weight of 1 is thought to be worth.
        damage: of the worst protected word.
        pictures: of a concept in a round: the next number as soon as so many cannot tell its shares from wanted ones.
        certify: fresh pictures of each concept that the verdict is made from.
        max_diff: how far a share may be from the wanted one.
        most_damage: a step ends where the worst word would take more.
        rounds: the most.
        seed: the first.
    """

    concepts: Sequence[str]
    wanted: Sequence[float]
    observe: Observe
    begin: Callable[[Weights], Mapping[str, float]]
    damage: Callable[[Weights], float]
    pictures: Sequence[int]
    certify: int
    max_diff: float
    most_damage: float
    rounds: int
    seed: int = 0
    tell: Callable[[Round], None] = field(default=lambda round: None)

    def run(self) -> Outcome:
        """Step until every concept is settled, then draw fresh seeds."""
        start = time.perf_counter()
        nothing = {concept: torch.zeros(len(self.wanted), dtype=torch.float64) for concept in self.concepts}
        fresh = range(self.seed + FRESH, self.seed + FRESH + self.certify)
        before = self.observe(self.concepts, nothing, fresh[: self.pictures[min(1, len(self.pictures) - 1)]])
        slopes = self.begin({concept: -apart(before[concept], self.wanted) for concept in self.concepts})
        states = {c: State(Controller(self.wanted, slopes[c]), before[c], nothing[c]) for c in self.concepts}
        asked = {c: states[c].controller.step(before[c], nothing[c]) for c in self.concepts}
        weights, share = self._within_damage(nothing, asked)
        done = [self._round(0, nothing, before, start)]
        stopped, moved = "", 1
        while not stopped:
            start = time.perf_counter()
            tallies = self._drawn(states, weights)
            done.append(self._round(len(done), weights, tallies, start))
            for concept in tallies:
                states[concept].drawn_at = len(done) - 1
            asked = {**weights, **{c: self._next(states[c], tally, weights[c]) for c, tally in tallies.items()}}
            if any(not torch.equal(asked[concept], weights[concept]) for concept in tallies):
                weights, share = self._within_damage(weights, asked)
                moved = len(done)
            moving = any(state.is_moving for state in states.values())
            went_back = any(states[concept].is_given_up for concept in tallies)  # often a long way: all others felt it
            stale = [
                state for state in states.values()
                if not state.is_given_up and (went_back or (not moving and state.drawn_at < moved))
            ]  # fmt: skip
            if not moving and not stale:
                stopped = _ended(states)
            elif len(done) > self.rounds:
                stopped = f"{self.rounds} rounds"
            elif share < LEAST_SHARE:
                stopped = f"the worst word would be damaged by more than {self.most_damage:g}"
            for state in stale:
                state.look_again(len(done))
        chosen = {c: nothing[c] if (best := states[c].best) is None else best[2] for c in self.concepts}
        weights, _ = self._within_damage(nothing, chosen)
        after = self.observe(self.concepts, weights, fresh)
        reached = {concept: after[concept].is_within(self.wanted, self.max_diff) for concept in self.concepts}
        return Outcome(weights, before, after, reached, tuple(done), stopped)

    def _drawn(self, states: Mapping[str, State], weights: Weights) -> dict[str, Tally]:
        """Of every concept that moves, as many pictures as its stage asks for."""
        tallies: dict[str, Tally] = {}
        for stage, count in enumerate(self.pictures):
            some = [c for c in self.concepts if states[c].is_moving and states[c].stage == stage]
            if some:
                tallies |= self.observe(some, weights, range(self.seed, self.seed + count))
        return {concept: tallies[concept] for concept in self.concepts if concept in tallies}

    def _next(self, state: State, tally: Tally, weights: Tensor) -> Tensor:
        """The weights to draw next: the same where those are as good as these pictures can tell, half of the way back
        where they have left the concept itself, and the best ones where it comes no nearer."""
        asked = self._stepped(state, tally, weights)
        if state.is_settled or state.drawn_at - state.best_at < PATIENCE:
            return asked
        state.is_given_up = True
        return state.good if state.best is None else state.best[2]

    def _stepped(self, state: State, tally: Tally, weights: Tensor) -> Tensor:
        if not tally.stays(state.before):
            state.controller.lost(weights)
            return (weights + state.good) / 2
        state.good = weights
        missed, is_last = tally.misses(self.wanted), state.stage == len(self.pictures) - 1
        here = (-state.stage, missed, weights)
        if state.best is None or here[:2] < state.best[:2]:
            state.best, state.best_at = here, state.drawn_at
        is_near = missed <= self.max_diff / (4 if is_last else 2)
        if is_last and (is_near or tally.is_within(self.wanted, self.max_diff)):
            state.is_settled = True
        elif not is_last and (is_near or tally.allows(self.wanted)):
            state.stage += 1
        return weights if is_near or state.is_settled else state.controller.step(tally, weights)

    def _within_damage(self, weights: Weights, asked: Weights) -> tuple[Weights, float]:
        """As much of the step as the worst word can take, and which share of it that is."""
        if self.damage(asked) <= self.most_damage:
            return asked, 1.0
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            inside = self.damage(_between(weights, asked, middle)) <= self.most_damage
            low, high = (middle, high) if inside else (low, middle)
        return _between(weights, asked, low), low

    def _round(self, number: int, weights: Weights, tallies: Mapping[str, Tally], start: float) -> Round:
        misses = {concept: tally.misses(self.wanted) for concept, tally in tallies.items()}
        done = Round(number, weights, tallies, misses, self.damage(weights), time.perf_counter() - start)
        self.tell(done)
        return done


def _ended(states: Mapping[str, State]) -> str:
    """Why, where none moves."""
    given_up = [concept for concept, state in states.items() if state.is_given_up]
    if not given_up:
        return "the pictures of every concept are as wanted"
    return f"{', '.join(given_up)}: no nearer in {PATIENCE} rounds; the pictures of the others are as wanted"


def _between(first: Weights, second: Weights, share: float) -> Weights:
    return {concept: first[concept] + share * (second[concept] - first[concept]) for concept in first}


def listed(weights: Tensor) -> list[float]:
    """As JSON."""
    return [round(float(weight), 5) for weight in weights]
