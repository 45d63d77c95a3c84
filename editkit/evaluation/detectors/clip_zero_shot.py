"""CLIP as a classifier over labels that the user gives (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from editkit.concepts.templates import fill
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.evaluation.networks.clip import load_clip
from editkit.options import REQUIRED, option


@dataclass(eq=False)
class ClipZeroShot:
    """CLIP over labels that are given: softmax of `scale · cos(picture, template filled with the label)`.

    The scores say which of *these* labels is likeliest; a picture of none of them still gets one. Add "nothing" or
    the like where that matters.
    """

    source: ClassVar[str] = "Radford et al. 2021, section 3.1"

    folder: Path | str = option(REQUIRED, "A CLIP, as transformers saves it.")
    labels: Sequence[str] = option(REQUIRED, "What it chooses among, at least two that differ.")
    template: str = option("a photo of a {}", "What CLIP reads of a label.")

    def __post_init__(self) -> None:
        if isinstance(self.labels, str) or len(set(self.labels)) < 2:
            raise EditkitError(
                f"detector 'clip-zero-shot': expected labels, at least two that differ, got {self.labels!r}"
            )
        self.clip, self.labels = load_clip(self.folder), tuple(dict.fromkeys(self.labels))
        self.texts = self.clip.texts([fill(self.template, label) for label in self.labels])
        self.name = f"clip-zero-shot:{self.clip.name}"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.clip.batch)

    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        shares = (self.clip.scale * self.clip.pictures(part) @ self.texts.T).softmax(dim=1)
        return [ranked(self.labels, scores) for scores in np.asarray(shares)]
