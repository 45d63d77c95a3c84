"""How much does a picture show a word? The measures S of the sensitivity δ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from editkit.concepts.profile import Profile
from editkit.concepts.templates import fill
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.detectors.judge import load_judge
from editkit.evaluation.networks.clip import Clip, load_clip
from editkit.model.checkpoints.source import Source


class Score(Protocol):
    """How much each of `pictures` shows the word beside it. `knows` says for which words it can tell."""

    name: str

    def knows(self, word: str) -> bool: ...

    def score(self, pictures: Sequence[Image.Image], words: Sequence[str]) -> list[float]: ...


def score_for(source: Source, clip: Path | None = None) -> Score:
    """CLIP's similarity where a folder with CLIP is given, else the judge of the model's profile.

    Raises:
        EditkitError: no CLIP, and a profile without a judge.
    """
    if clip is not None:
        return ClipSimilarity(load_clip(clip))
    judge = load_judge(source.profile)
    if judge is not None:
        return JudgeProbability(judge, source.profile)
    raise EditkitError(
        f"model {source.name}: pictures of it are scored by CLIP; give --clip DIR, a download of "
        "openai/clip-vit-large-patch14 for instance, or a --profile with a judge"
    )


class ClipSimilarity:
    """Cosine of picture and word by CLIP, as in AP Fig. 1. It has an opinion on every word."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.name = clip, f"similarity by {clip.name}"

    def knows(self, word: str) -> bool:
        return True

    def score(self, pictures: Sequence[Image.Image], words: Sequence[str]) -> list[float]:
        """One cosine a picture."""
        return self.clip.cosines(pictures, [(fill("a {}", word),) for word in words])[:, 0].tolist()


class JudgeProbability:
    """The probability that a judge gives to a word: of a hypernym, that of all its members together.

    Words that the profile has no label for are unknown to it.
    """

    def __init__(self, judge: Detector, profile: Profile) -> None:
        self.judge, self.profile, self.name = judge, profile, f"probability by {judge.name}"

    def knows(self, word: str) -> bool:
        return word.lower() in self.profile.meanings

    def score(self, pictures: Sequence[Image.Image], words: Sequence[str]) -> list[float]:
        """One number a picture, between 0 and 1.

        Raises:
            EditkitError: a picture could not be judged.
        """
        detections = self.judge.detect(pictures)
        return [
            probability(detection, self.profile.meanings[word.lower()])
            for detection, word in zip(detections, words, strict=True)
        ]


def probability(detection: Detection, labels: Sequence[str]) -> float:
    """That a classifier's detection gives to any of `labels`."""
    if detection.error is not None:
        raise EditkitError(f"a picture could not be judged: {detection.error}")
    return sum(score for label, score in zip(detection.labels, detection.scores, strict=True) if label in labels)
