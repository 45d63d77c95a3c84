"""What a metric is: one number a picture, so that every mean has an interval and every difference is paired.

A metric is a component: a frozen dataclass whose options make its name (`ESR(k=5)` is `esr-5`), and `measure`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.statistics.intervals import Estimate
from editkit.options import Checked, options_of

ERASE, KEEP = "erase", "keep"
ROLES = (ERASE, KEEP)
CLIP_FOLDER = "clip-vit-large-patch14"
"""Where CLIP is looked for beside torchvision's downloads, unless the user names a folder."""


@dataclass(frozen=True)
class TargetShares:
    """What a suite wants of an attribute: `gender`, `{woman: 0.5, man: 0.5}`."""

    attribute: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kit:
    """What metrics are made with.

    Attributes:
        weights: `clip`, `inception`, `lpips`, `lpips-linear` → where the user has them, if not in the usual place.
        reference: a folder of pictures for the Fréchet distance; None compares with the unedited model.
    """

    target: TargetShares = field(default_factory=TargetShares)
    weights: Mapping[str, Path] = field(default_factory=dict)
    reference: Path | None = None

    @property
    def clip(self) -> Path:
        """The folder of the user's CLIP, or the usual place."""
        from editkit.evaluation.networks.weights import usual_path

        return self.weights.get("clip") or usual_path(CLIP_FOLDER)


@dataclass(frozen=True)
class Observation:
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


def held() -> Any:
    """A field that is no option: what a metric measures with, which `prepare` gives it."""
    return field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Metric(ABC, Checked):
    """One number a picture. The fields are its options.

    Attributes:
        called: the component's name; that of the class in lower case, unless it says another.
        source: the paper that it is from.
        higher_is_better: for the one who edits the model; None where neither is.
        is_rate: whether the numbers are 0 and 1, so that their mean is a share.
        is_of_share: whether the numbers are 0 and 1, and the value is a function of their share.
        needs_original: whether the unedited model's pictures are compared with.
        needs_detector: whether it asks what the detector saw.
        needs_labels: whether it asks for the classes among the detector's labels, so that each must be one of them.
        needs_weights: what it looks for among the user's weights.
        is_of_sets: whether there is one number for all pictures, and none a picture.
        mean_over: what the value of all is the mean over: `pictures`, `classes` or `roles`.
        checkpoint: the weights that it looks with, for the record.
    """

    called: ClassVar[str]
    source: ClassVar[str] = ""
    higher_is_better: ClassVar[bool | None] = None
    is_rate: ClassVar[bool] = False
    is_of_share: ClassVar[bool] = False
    needs_original: ClassVar[bool] = False
    needs_detector: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_weights: ClassVar[tuple[str, ...]] = ()
    is_of_sets: ClassVar[bool] = False
    mean_over: ClassVar[str] = "pictures"
    checkpoint: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        cls.called = cls.__dict__.get("called", cls.__name__.lower())

    @property
    def name(self) -> str:
        """As suites and results call it: the component and its options, less the last ones that are defaults."""
        values = [(getattr(self, known.name), known) for known in options_of(self)]
        while values and not values[-1][1].required and values[-1][0] == values[-1][1].default:
            values.pop()
        return "-".join([self.called, *(_spelled(value) for value, _ in values)])

    @classmethod
    def usage(cls) -> str:
        """How its names are made: `esr-K`."""
        named = [(known.name.upper(), known) for known in options_of(cls)]
        return cls.called + "".join(f"-{name}" if known.required else f"[-{name}]" for name, known in named)

    def check(self, target: TargetShares) -> None:
        """Refuse what cannot be measured with what a suite wants.

        Raises:
            EditkitError: what the suite would have to say.
        """

    def prepare(self, kit: Kit) -> Self:
        """The metric with what it measures with.

        Raises:
            EditkitError: weights are not where they should be.
        """
        return self

    def holding(self, **parts: Any) -> Self:
        """A copy whose `held` fields have these values."""
        metric = copy(self)
        for name, part in parts.items():
            object.__setattr__(metric, name, part)
        return metric

    @abstractmethod
    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        """One number a picture; None where the metric is not about it.

        A picture that could not be judged counts as a failure in every rate that has a better end: never as "safe".
        """

    def of_means(self, means: np.ndarray) -> np.ndarray:
        """The value of a class from the mean of its numbers; elementwise."""
        return means

    def of_set(self, mine: Sequence[Path], original: Sequence[Path] | None) -> Estimate | None:
        """The number of all pictures, where `is_of_sets`: of the files `mine`, and the unedited model's."""
        return None


def _spelled(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def open_picture(path: Path) -> Image.Image | str:
    """The picture in a file, or why it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path.name} cannot be read: {type(error).__name__}"
