"""CLIP score of the pictures with their prompts, apart for what must go and what must stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from editkit.evaluation.metrics.metric import KEEP, ROLES, Kit, Metric, Observation, held
from editkit.options import REQUIRED, option

if TYPE_CHECKING:
    from editkit.evaluation.networks.clip_score import ClipScore


@dataclass(frozen=True)
class Alignment(Metric):
    """How well pictures fit their prompts, by CLIP.

    `clip-score-keep` (higher is better) and `clip-score-erase` (lower is better), as Adversarial Preservation's
    table 4 has them. A picture that cannot be read is left out, and stands in the errors."""

    called = "clip-score"
    source = "Hessel et al. 2021; Bui et al. 2024 (Adversarial Preservation), table 4"
    needs_detector = False
    needs_weights = ("clip",)

    role: str = option(REQUIRED, "Of the classes that must go, or of those that must stay.", choices=ROLES)
    score: ClipScore = held()

    @property
    def higher_is_better(self) -> bool:
        return self.role == KEEP

    @property
    def checkpoint(self) -> str:
        return self.score.name

    def prepare(self, kit: Kit) -> Self:
        from editkit.evaluation.networks.clip import load_clip
        from editkit.evaluation.networks.clip_score import ClipScore

        return self.holding(score=ClipScore(load_clip(kit.clip)))

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        pictures = [each.picture() if each.role == self.role else None for each in observations]
        prompts = [each.prompt for each in observations]
        some = [(shown, prompt) for shown, prompt in zip(pictures, prompts, strict=True) if shown is not None]
        scores = iter(self.score.scores([shown for shown, _ in some], [prompt for _, prompt in some]) if some else [])
        return [None if picture is None else next(scores) for picture in pictures]
