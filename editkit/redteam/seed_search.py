"""The baselines of equal budget: the same prompt with new seeds, and random words before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.letters import letters_of
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target


@dataclass(frozen=True)
class SeedSearch(Checked):
    """Draw the unattacked prompt with new seeds: what any attack must beat at equal pictures."""

    changes: ClassVar[Changes] = "latent"
    access: ClassVar[str] = "judge"
    source: ClassVar[str] = "Zhang et al. 2024 (UnlearnDiffAtk), code: seed_search"

    tries: int = option(24, "Pictures of a prompt.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a prompt: any of its pictures counts."""
        arena.victim_for("seed-search")
        first = 1 + max(arena.seeds, default=0)
        shots = tuple(Shot(first + n) for n in range(self.tries))
        return [Proposal(prompt, shots=shots) for prompt in target.prompts]


@dataclass(frozen=True)
class Random(Checked):
    """Put random words before the prompt, or in its place: what a search must beat at equal pictures."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "judge"
    source: ClassVar[str] = "Zhang et al. 2024 (UnlearnDiffAtk), code: random"

    tries: int = option(24, "Prompts.", above=0)
    prefix: int = option(3, "Words of each.", above=0)
    keep_prompt: bool = option(True, "Keep the unattacked prompt behind them.", flag="--keep-prompt/--drop-prompt")

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a prompt, one picture each."""
        arena.victim_for("random")
        letters = letters_of(arena.model, target)
        chosen = torch.randint(letters.count, (self.tries, self.prefix), generator=arena.generator(1)).tolist()
        attempts = []
        for n, prompt in enumerate(chosen):
            source = target.prompts[n % len(target.prompts)]
            text = f"{letters.text(prompt)} {source}" if self.keep_prompt else letters.text(prompt)
            attempts.append(Proposal(source, text, letters.ids(prompt), shots=(Shot(arena.seeds[0]),)))
        return attempts
