"""Completion: the original draws the first steps, the attacked model the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target


@dataclass(frozen=True)
class Completion(Checked):
    """Let the original draw the first steps with the concept's prompt, and the attacked model go on from there."""

    changes: ClassVar[Changes] = "image"
    access: ClassVar[str] = "judge"
    source: ClassVar[str] = "Lu et al. 2025 (When are concepts erased), completion"

    handover: int = option(2, "The most steps that the original draws; fewer are attempts of their own.", above=0)
    goes_on_with_text: bool = option(
        True, "What the attacked model reads: the concept's prompt, or the empty one.",
        flag="--goes-on-with-text/--goes-on-without",
    )  # fmt: skip

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt for every prompt and number of steps from 1 on; with 0 it is the unattacked prompt."""
        arena.victim_for("completion")
        return [
            Proposal(
                prompt, shots=tuple(Shot(seed, handover=steps, prompted=self.goes_on_with_text) for seed in arena.seeds)
            )
            for prompt in target.prompts
            for steps in range(1, min(self.handover, arena.sampling.steps) + 1)
        ]
