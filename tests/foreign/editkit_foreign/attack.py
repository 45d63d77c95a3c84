"""An attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.target import Target


@dataclass(frozen=True)
class Shrug(Checked):
    """Change nothing."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "none"

    left: float = option(0.5, "The loss that is told.", at_least=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        return [Proposal(target.prompts[0], loss=self.left)]
