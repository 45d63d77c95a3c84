"""The rounds of one hardening: attack, keep what is confirmed, solve again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from editkit.edits.edit import Edit
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.redteam.arena import Arena
from editkit.redteam.counterexamples import ByLoss, Confirm, Counterexample, near_duplicate
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.recipe import Recipe
from editkit.redteam.target import Target

TRANSFERRED = 32
"""Earlier prompts a concept that are drawn again in a round."""


@dataclass(frozen=True)
class Round:
    """One round: what a fresh attack found against the edit so far, and what the edit then was.

    Attributes:
        fresh: share of freshly found prompts with a concept in any of their pictures, with its interval.
        worst: the same of the worst concept, without one.
        added: prompts that were confirmed and are erased from now on.
        transfer: share of pictures of all earlier prompts that still show a concept; None in the first round.
        rank, recovery_floor, damage_mean, damage_worst: figures of the edit that was attacked.
        words: protected words that bring a concept back alone: word → concept.
    """

    number: int
    fresh: Estimate
    worst: float
    added: int
    transfer: float | None
    rank: int
    recovery_floor: float
    damage_mean: float
    damage_worst: float
    seconds: float
    words: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "fresh": self.fresh.as_dict()}


@dataclass(frozen=True)
class Loop:
    """The rounds of one hardening."""

    recipe: Recipe
    arena: Arena
    targets: Sequence[Target]
    search: PromptSearch
    confirm: Confirm
    searches: int
    per_round: int
    weight: float

    def run(self, edit: Edit, goal: float, rounds: int, most_damage: float, tell: Callable[[Round], None]) -> Edit:
        """Attack, add, solve; stop as `harden` says. Whoever interrupts it has the best edit so far."""
        found = {concept: list(prompts) for concept, prompts in self.recipe.found.items()}
        best: tuple[float, Edit] | None = None
        done: list[Round] = []
        stopped: str | None = None
        try:
            for number in range(rounds + 1):
                each, new = self._round(number, edit, found, number == rounds)
                done.append(each)
                if best is None or (each.damage_worst <= most_damage and each.fresh.high < best[0]):
                    best = (each.fresh.high, edit)
                tell(each)
                if stopped := _why_stop(each, new, goal, rounds, most_damage):
                    break
                for concept, prompts in new.items():
                    found.setdefault(concept, []).extend(prompts)
                edit = self.recipe.made({concept: some for concept, some in found.items() if some}, self.weight)
        except KeyboardInterrupt:
            if best is None:
                raise
            stopped = "interrupted"
        assert best is not None
        return replace(best[1], record={**best[1].record, "hardened": self._record(done, stopped)})

    def _round(
        self, number: int, edit: Edit, found: Mapping[str, Sequence[str]], last: bool
    ) -> tuple[Round, dict[str, list[str]]]:
        """What a fresh attack does to `edit`, and the confirmed prompts of each concept."""
        start = time.perf_counter()
        arena = self.arena.of(edit)
        fresh = {target.concept: self._fresh(arena, target, number) for target in self.targets}
        new = {concept: self._new(some, found.get(concept, [])) for concept, some in fresh.items()}
        rate = rate_interval(
            [any(each.hits) for some in fresh.values() for each in some],
            [concept for concept, some in fresh.items() for _ in some],
        )
        figures, transfer, words = edit.record["figures"], self._transfer(arena, found), self._alone(arena, fresh)
        done = Round(
            number, rate, max(map(_share, fresh.values())), 0 if last else sum(map(len, new.values())), transfer,
            figures["rank"], figures.get("recovery_floor", 0.0), figures["damage_mean"] or 0.0,
            figures["damage_worst"] or 0.0, round(time.perf_counter() - start, 2), words,
        )  # fmt: skip
        return done, new

    def _fresh(self, arena: Arena, target: Target, number: int) -> list[Counterexample]:
        """Several searches with seeds of their own; their best prompts are drawn and judged."""
        prompts: dict[str, float] = {}
        for n in range(self.searches):
            seeded = replace(arena, seed=arena.seed + 1000 * number + n + 1)
            for each in self.search.attack(seeded, target):
                if each.prompt is not None:
                    prompts.setdefault(each.prompt, each.loss or 0.0)
        chosen = sorted(prompts, key=lambda prompt: prompts[prompt])[: self.per_round]
        return self.confirm(arena, target, chosen)

    def _new(self, fresh: Sequence[Counterexample], known: Sequence[str]) -> list[str]:
        """Confirmed prompts that are no near-duplicates of each other or of known ones."""
        kept: list[str] = []
        encoder, gram = self.arena.model.encoder, self.arena.model.gram
        for each in sorted(fresh, key=lambda each: -sum(each.hits)):
            if any(each.hits) and each.prompt not in known and not near_duplicate(encoder, gram, each.prompt, kept):
                kept.append(each.prompt)
        return kept

    def _transfer(self, arena: Arena, found: Mapping[str, Sequence[str]]) -> float | None:
        shown = [
            hit
            for target in self.targets
            for each in self.confirm(
                replace(arena, seeds=arena.seeds[:1]), target, found.get(target.concept, ())[-TRANSFERRED:]
            )
            for hit in each.hits
        ]
        return sum(shown) / len(shown) if shown else None

    def _alone(self, arena: Arena, fresh: Mapping[str, Sequence[Counterexample]]) -> dict[str, str]:
        """Protected words of confirmed prompts that bring the concept back by themselves."""
        vocabulary = self.recipe.vocabulary if self.recipe.vocabulary is not None else self.recipe.model.own_words()
        protected, culprits = {*vocabulary}, {}
        for target in self.targets:
            used = {word for each in fresh[target.concept] if any(each.hits) for word in each.prompt.split()}
            words = sorted(word for word in used & protected if not target.naming(word))
            for each in self.confirm(arena, target, words):
                if sum(each.hits) * 2 > len(each.hits):
                    culprits[each.prompt] = target.concept
        return culprits

    def _record(self, rounds: Sequence[Round], stopped: str | None) -> dict[str, Any]:
        return {
            "stopped": stopped,
            "below": self.confirm.below if isinstance(self.confirm, ByLoss) else None,
            "search": {
                name: value for name, value in vars(self.search).items() if isinstance(value, str | int | float)
            },
            "rounds": [each.as_dict() for each in rounds],
        }


def _why_stop(
    done: Round, new: Mapping[str, Sequence[str]], goal: float, rounds: int, most_damage: float
) -> str | None:
    if done.damage_worst > most_damage:
        return f"the worst word is damaged by {done.damage_worst:.3f}, above {most_damage:g}"
    if done.fresh.high < goal:
        return f"a fresh attack has an upper limit of {done.fresh.high:.1%}, below the goal of {goal:.0%}"
    if not any(new.values()):
        return "no new prompt was confirmed"
    return f"{rounds} rounds" if done.number == rounds else None


def _share(some: Sequence[Counterexample]) -> float:
    return sum(any(each.hits) for each in some) / len(some) if some else 0.0
