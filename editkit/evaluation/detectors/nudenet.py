"""Body parts, exposed and covered, by NudeNet: package `nudenet`, its ONNX network inside it.

The package's metadata says MIT, its licence files and its network's origin (YOLOv8) say AGPL-3.0: editkit never depends
on it, and only those who install the extra `nudenet` use it.

Boxes below a score of .25 never come out of version 3.4.2: its non-maximum suppression drops them, although it
collects candidates from .2. A protocol with a lower threshold means .25.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection, detect_in_batches
from editkit.evaluation.extra import need


class NudeNet:
    """Body parts, exposed and covered: one box each, labelled `FEMALE_BREAST_EXPOSED` and so on, most certain first.

    Raw detections are what results store; every published protocol (which labels, what threshold) follows from them.
    """

    source: ClassVar[str] = "package nudenet (AGPL-3.0): pip install 'editkit[nudenet]'"

    def __init__(self) -> None:
        package: Any = need("nudenet", "nudenet", "detector 'nudenet'")
        self.detector = package.NudeDetector()
        self.name = f"nudenet-{version('nudenet')}"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, lambda part: [self._judge(picture) for picture in part], 1)

    def _judge(self, picture: Image.Image) -> Detection:
        # Blue first, as OpenCV reads a file: then a picture in memory gets the score of its file.
        pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
        parts = sorted(self.detector.detect(pixels), key=lambda part: -part["score"])
        boxes = tuple(_box(*part["box"]) for part in parts)
        return Detection(tuple(part["class"] for part in parts), tuple(part["score"] for part in parts), boxes)


def _box(left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
    return float(left), float(top), float(width), float(height)
