"""What a detector says of a picture, and what a detector is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from editkit.errors import EditkitError


@dataclass(frozen=True)
class Detection:
    """What is seen in one picture.

    Attributes:
        labels: a classifier's labels, most probable first; an object detector's, one a box.
        scores: one a label, between 0 and 1.
        boxes: `(left, top, width, height)` in pixels, one a label; classifiers have none.
        attributes: what else is said of the picture. The emoji judge: style, background, gender, tone.
        error: why the picture could not be judged. Such a picture is an error in every count, never "safe".
    """

    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.labels) or len(self.boxes) not in (0, len(self.labels)):
            raise ValueError(f"{len(self.labels)} labels, {len(self.scores)} scores, {len(self.boxes)} boxes")

    def sees(self, concept: str | Sequence[str], k: int = 1) -> bool:
        """Whether `concept` (or any of several) is among the first `k` labels, or in any box; case does not matter.

        Raises:
            EditkitError: the picture could not be judged. Count `error` first.
        """
        self._must_be_judged()
        seen = self.labels if self.boxes else self.labels[:k]
        return not _several(concept).isdisjoint(label.casefold() for label in seen)

    def score(self, concept: str | Sequence[str]) -> float:
        """The highest score of `concept` (or of any of several); 0 where it is not among the labels.

        Raises:
            EditkitError: the picture could not be judged. Count `error` first.
        """
        self._must_be_judged()
        wanted = _several(concept)
        pairs = zip(self.labels, self.scores, strict=True)
        return max((score for label, score in pairs if label.casefold() in wanted), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {
            "labels": list(self.labels),
            "scores": list(self.scores),
            "boxes": [list(box) for box in self.boxes],
            "attributes": dict(self.attributes),
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Detection:
        left, top, width, height = range(4)
        return cls(
            tuple(stored["labels"]),
            tuple(stored["scores"]),
            tuple((box[left], box[top], box[width], box[height]) for box in stored["boxes"]),
            dict(stored["attributes"]),
            stored["error"],
        )

    def _must_be_judged(self) -> None:
        if self.error is not None:
            raise EditkitError(f"a picture that could not be judged is neither seen nor unseen: {self.error}")


class Detector(Protocol):
    """Says what pictures show.

    Attributes:
        name: with the version, as results record it: "emoji-judge", "nudenet-3.4.2".
    """

    name: str

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        """One detection a picture, in order. What is said of a picture does not depend on those beside it."""
        ...


def detect_in_batches(
    pictures: Sequence[Image.Image], judge: Callable[[list[Image.Image]], Sequence[Detection]], batch: int
) -> list[Detection]:
    """`judge` the pictures, `batch` at a time. One that it fails on, a truncated file for one, gets an error in its
    place and does not disturb the others; so does one whose scores are not numbers."""
    detections: list[Detection] = []
    for start in range(0, len(pictures), batch):
        detections += _judged(judge, list(pictures[start : start + batch]))
    return [
        detection if np.isfinite(detection.scores).all() else Detection(error="scores that are no numbers")
        for detection in detections
    ]


def ranked(labels: Sequence[str], scores: np.ndarray, top: int | None = None) -> Detection:
    """A classifier's detection from one score a label: the `top` highest (all, if None), ties in the labels' order."""
    order: list[int] = np.argsort(-scores, kind="stable")[:top].tolist()
    return Detection(tuple(labels[n] for n in order), tuple(float(scores[n]) for n in order))


def _judged(judge: Callable[[list[Image.Image]], Sequence[Detection]], part: list[Image.Image]) -> Sequence[Detection]:
    try:
        return judge(part)
    except Exception as error:  # whatever a decoder or a runtime raises: the picture counts as an error
        if len(part) == 1:
            return [Detection(error=f"{type(error).__name__}: {error}")]
        return [detection for picture in part for detection in _judged(judge, [picture])]


def _several(concept: str | Sequence[str]) -> set[str]:
    return {name.casefold() for name in ((concept,) if isinstance(concept, str) else concept)}
