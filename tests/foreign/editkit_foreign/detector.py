"""A detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection


def brightness(picture: Image.Image) -> float:
    """The mean of all values, from 0 to 1."""
    return float(np.asarray(picture.convert("RGB")).mean() / 255)


class LightMeter:
    """How bright is a picture?"""

    name = "light-meter-1.0"

    def __init__(self, label: str = "light") -> None:
        self.label = label

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return [Detection((self.label,), (brightness(picture),)) for picture in pictures]
