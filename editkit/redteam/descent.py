"""What all attacks that descend the denoising loss of the attacked model have in common: their options."""

from __future__ import annotations

from dataclasses import dataclass

from editkit.inverting.descent import looks_at
from editkit.options import option
from editkit.redteam.budget import HasBudget


@dataclass(frozen=True)
class Descent(HasBudget):
    """A base for attacks that descend the denoising loss of the attacked model."""

    iterations: int = option(80, "Steps of the optimiser.", above=0, otherwise={"--budget paper": 2000})
    rate: float = option(0.01, "Learning rate of an attack's optimiser.", above=0)
    decay: float = option(0.1, "Weight decay of an attack's optimiser.", at_least=0)
    points: int = option(2, "Noisy latents that an iteration looks at.", above=0, otherwise={"--budget paper": 1})
    target_images: int = option(8, "Pictures of the concept, drawn by the original, to learn from.", above=0)
    held: int = option(24, "Noisy latents that what is learned is compared on.", above=0)

    def looks_at(self, iteration: int) -> bool:
        """Whether what is learned is looked at after it."""
        return looks_at(iteration, self.iterations)
