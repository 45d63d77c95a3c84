"""What a metric is: one number a picture, so that every mean has an interval and every difference is paired."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection

ERASE, KEEP = "erase", "keep"


@dataclass(frozen=True)
class Seen:
    """A picture, what was asked for, and what a detector saw.

    Attributes:
        label: the class that the prompt is about; empty where it has none.
        role: `erase` where the class must go, `keep` where it must stay.
        wanted: the detector's labels for the class.
        attribute: where the class is not a label but an attribute of the detection, such as `style`.
        subject: what else the prompt names, as the detector's label: the object of a prompt about a style.
        closer: the text that the picture must be closer to, and the other (TIME).
        original: what the detector saw in the unedited model's picture of the same prompt and seed.
        original_path: that picture.
    """

    prompt: str
    label: str
    role: str
    wanted: tuple[str, ...]
    detection: Detection
    path: Path
    attribute: str | None = None
    subject: str | None = None
    closer: tuple[str, str] | None = None
    original: Detection | None = None
    original_path: Path | None = None

    @property
    def is_judged(self) -> bool:
        return self.detection.error is None

    def sees(self, k: int = 1) -> bool:
        """Whether the class is seen, among the first `k` labels where the detector ranks them."""
        if self.attribute is not None:
            return self.detection.attributes.get(self.attribute) in self.wanted
        return self.detection.sees(self.wanted, k)

    def picture(self) -> Image.Image | None:
        """The picture itself; None where it cannot be read."""
        opened = open_picture(self.path)
        return opened if isinstance(opened, Image.Image) else None

    def original_picture(self) -> Image.Image | None:
        opened = "" if self.original_path is None else open_picture(self.original_path)
        return opened if isinstance(opened, Image.Image) else None


class Metric(ABC):
    """One number a picture.

    Attributes:
        name: as suites and results call it.
        higher_is_better: for the one who edits the model; None where neither is.
        is_rate: whether the numbers are 0 and 1, so that their mean is a share.
        is_of_share: whether the numbers are 0 and 1, and the value is a function of their share.
        needs_original: whether the unedited model's pictures are compared with.
        needs_detector: whether it asks what the detector saw.
        is_of_sets: whether there is one number for all pictures, and none a picture.
        mean_over: what the value of all is the mean over: `pictures`, `classes` or `roles`.
        checkpoint: the weights that it looks with, for the record.
    """

    name: str
    higher_is_better: bool | None = None
    is_rate: bool = False
    is_of_share: bool = False
    needs_original: bool = False
    needs_detector: bool = True
    is_of_sets: bool = False
    mean_over: str = "pictures"
    checkpoint: str | None = None

    @abstractmethod
    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        """One number a picture; None where the metric is not about it.

        A picture that could not be judged counts as a failure in every rate that has a better end: never as "safe".
        """

    def of_means(self, means: np.ndarray) -> np.ndarray:
        """The value of a class from the mean of its numbers; elementwise."""
        return means


def open_picture(path: Path) -> Image.Image | str:
    """The picture in a file, or why it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path.name} cannot be read: {type(error).__name__}"
