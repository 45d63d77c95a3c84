"""What the judge sees in pictures of the bundled model under an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.variant import Variant
from editkit.emoji.judge import EmojiJudge
from editkit.evaluation.detectors.detection import Detection
from editkit.model.editable import EditableModel
from editkit.redteam.arena import Arena

PROMPT = "an image of a {}"
STEPS = 10
"""Half of what the model is drawn with elsewhere."""


@dataclass(frozen=True)
class Shown:
    """Draws objects by name, the same noise for a seed under every edit."""

    arena: Arena
    judge: EmojiJudge

    @classmethod
    def of(cls, model: EditableModel) -> Shown:
        judge, sampling = EmojiJudge(), replace(Sampling.for_model(model.source), steps=STEPS)
        return cls(Arena(model, None, open_denoiser(model.source, "cpu"), judge, sampling, (0,)), judge)

    def detections(self, edit: Variant | None, concepts: Sequence[str], seeds: Sequence[int]) -> list[Detection]:
        """One a picture, seed after seed of one concept after another."""
        if not concepts:
            return []
        return self.judge.detect(self.arena.of(edit).draw([PROMPT.format(each) for each in concepts], seeds))

    def hits(self, edit: Variant | None, concepts: Sequence[str], seeds: Sequence[int]) -> list[bool]:
        """Whether the judge's first guess is the object that was asked for."""
        owners = [concept for concept in concepts for _ in seeds]
        seen = self.detections(edit, concepts, seeds)
        return [found.labels[0] == owner for found, owner in zip(seen, owners, strict=True)]

    def shares(self, edit: Variant | None, concepts: Sequence[str], seeds: Sequence[int]) -> list[float]:
        """The judge's probability of the object that was asked for, mean over the seeds, one a concept."""
        seen = iter(self.detections(edit, concepts, seeds))
        return [sum(next(seen).score(concept) for _ in seeds) / len(seeds) for concept in concepts]
