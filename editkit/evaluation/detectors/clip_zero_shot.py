"""CLIP as a classifier over labels that the user gives (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from editkit.concepts.templates import fill
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.evaluation.networks.clip import load_clip


class ClipZeroShot:
    """Softmax over the labels of `scale · cos(picture, template filled with the label)`.

    The scores say which of *these* labels is likeliest; a picture of none of them still gets one. Add "nothing" or
    the like where that matters.
    """

    def __init__(self, folder: Path | str, labels: Sequence[str], template: str = "a photo of a {}") -> None:
        if isinstance(labels, str) or len(set(labels)) < 2:
            raise EditkitError(f"detector 'clip-zero-shot': expected labels, at least two that differ, got {labels!r}")
        self.clip, self.labels = load_clip(folder), tuple(dict.fromkeys(labels))
        self.texts = self.clip.texts([fill(template, label) for label in self.labels])
        self.name = f"clip-zero-shot:{self.clip.name}"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.clip.batch)

    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        shares = (self.clip.scale * self.clip.pictures(part) @ self.texts.T).softmax(dim=1)
        return [ranked(self.labels, scores) for scores in np.asarray(shares)]
