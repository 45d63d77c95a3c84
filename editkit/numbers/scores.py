"""How much does a picture show a word? The measures S of the sensitivity δ."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from editkit.emoji.meaning import meanings
from editkit.errors import EditkitError
from editkit.numbers.detectors.detection import Detection, Detector
from editkit.numbers.detectors.registry import load_detector


class JudgeProbability:
    """The probability that the bundled model's judge gives to a word: of a hypernym, that of all its members together.

    Words that it has no label for are unknown to it.
    """

    def __init__(self, judge: Detector | None = None) -> None:
        self.judge = judge or load_detector("emoji-judge")
        self.name = f"probability by {self.judge.name}"

    def knows(self, word: str) -> bool:
        return word.lower() in meanings()

    def score(self, pictures: Sequence[Image.Image], words: Sequence[str]) -> list[float]:
        """One number a picture, between 0 and 1.

        Raises:
            EditkitError: a picture could not be judged.
        """
        found = self.judge.detect(pictures)
        return [probability(one, meanings()[word.lower()]) for one, word in zip(found, words, strict=True)]


def probability(detection: Detection, labels: Sequence[str]) -> float:
    """That a classifier's detection gives to any of `labels`."""
    if detection.error is not None:
        raise EditkitError(f"a picture could not be judged: {detection.error}")
    return sum(score for label, score in zip(detection.labels, detection.scores, strict=True) if label in labels)
