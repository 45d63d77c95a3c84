"""How textual inversion learns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from editkit.options import Checked, option


@dataclass(frozen=True)
class InvertOptions(Checked):
    """Options of `editkit invert`.

    >>> InvertOptions().restarts
    4
    """

    vectors: int = option(1, "Vectors that are learned for the token.", above=0)
    steps: int = option(1000, "Steps of the optimiser, of each restart, at most.", above=0)
    restarts: int = option(4, "Times to learn anew, from another word and other noise.", above=0)
    rate: float = option(5e-3, "Learning rate.", above=0)
    decay: float = option(0.0, "Weight decay.", at_least=0)
    points: int = option(4, "Noisy latents that a step looks at.", above=0)
    held: int = option(
        48, "Noisy latents that no step sees: the best vectors are those of the smallest loss there.", above=0
    )
    patience: int = option(5, "Looks at these without a smaller loss, after which a restart ends.", above=0)
    flip: bool = option(True, "Learn from mirror images, too.", flag="--flip/--no-flip")
    masked: str = option(
        "hidden",
        "With masks, what is erased: `hidden`, learned alone; or `whole`, what whole pictures add to what stays.",
        choices=("hidden", "whole"),
    )
    together: float = option(
        1e-3, "--masked whole: weight that keeps these vectors near those of what stays.", at_least=0
    )
    seed: int = option(0, "Of noise and of starts.", at_least=0)

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return asdict(self)
