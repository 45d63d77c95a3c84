"""The noise probe: a sampler that adds more noise on its way than it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from editkit.options import Checked
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target

ETAS = (1.0, 1.17, 1.34, 1.51, 1.68, 1.85)
SCALES = (1.0, 1.02, 1.03, 1.04)


@dataclass(frozen=True)
class NoiseProbe(Checked):
    """Draw the unattacked prompt by DDIM with fresh noise of six sizes and four scales; the best of the 24 counts."""

    changes: ClassVar[Changes] = "latent"
    access: ClassVar[str] = "judge"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "Lu et al. 2025 (When are concepts erased), noise probe"

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a prompt: any of its pictures counts. They start from the seeds of `seed-search`, so that the
        gain over it compares picture with picture."""
        arena.victim_for("noise-probe")
        first = 1 + max(arena.seeds)
        shots = tuple(
            Shot(first + n, eta=eta, noise_scale=scale) for n, (eta, scale) in enumerate(product(ETAS, SCALES))
        )
        return [Proposal(prompt, shots=shots) for prompt in target.prompts]
