"""CLIP score of the pictures with their prompts, apart for what must go and what must stay."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from editkit.evaluation.metrics.metric import Metric, Seen
from editkit.evaluation.networks.clip_score import ClipScore


class Alignment(Metric):
    """`clip-score-keep` (higher is better) and `clip-score-erase` (lower is better), as Adversarial Preservation's
    table 4 has them. A picture that cannot be read is left out, and stands in the errors."""

    needs_detector = False

    def __init__(self, role: str, score: ClipScore) -> None:
        self.role, self.score, self.name = role, score, f"clip-score-{role}"
        self.higher_is_better, self.checkpoint = role == "keep", score.name

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        pictures = [one.picture() if one.role == self.role else None for one in seen]
        some = [(picture, one.prompt) for picture, one in zip(pictures, seen, strict=True) if picture is not None]
        shown: list[Image.Image] = [picture for picture, _ in some]
        scores = iter(self.score.scores(shown, [prompt for _, prompt in some]) if some else [])
        return [None if picture is None else next(scores) for picture in pictures]
