"""TIME's figures as rates over pictures: did the edit take, does it carry, did it leak?

Each picture is asked which of two texts it is closer to; which texts, says `editkit.evaluation.time_metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.metrics.metric import Kit, Metric, Observation, held
from editkit.options import option

if TYPE_CHECKING:
    from editkit.evaluation.networks.clip import Clip

SEEN = "seen"


@dataclass(frozen=True)
class Nearness(Metric):
    """Share of pictures that are closer to the text that they must be closer to. A draw and an error are no success."""

    source = "Orgad, Kawar and Belinkov 2023 (TIME), section 5"
    is_rate = True
    higher_is_better = True
    needs_weights = ("clip",)

    by: str = option(
        "clip", "Who says so: CLIP, or the detector's scores of what the texts name.", choices=("clip", SEEN)
    )
    clip: Clip = held()

    @property
    def needs_detector(self) -> bool:
        return self.by == SEEN

    @property
    def checkpoint(self) -> str | None:
        return None if self.by == SEEN else self.clip.name

    def prepare(self, kit: Kit) -> Self:
        if self.by == SEEN:
            return self
        from editkit.evaluation.networks.clip import load_clip

        return self.holding(clip=load_clip(kit.clip))

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [
            None if each.closer is None or each.label != self.called else self._success(each, *each.closer)
            for each in observations
        ]

    def _success(self, observation: Observation, wanted: str, other: str) -> float:
        picture = observation.picture()
        if picture is None or (self.by == SEEN and not observation.is_judged):
            return 0.0
        near, far = self._likeness(observation.detection, picture, wanted, other)
        return float(near > far)

    def _likeness(self, detection: Detection, picture: Image.Image, wanted: str, other: str) -> list[float]:
        """How alike the picture and each text are."""
        if self.by == SEEN:
            return seen_likeness(detection, wanted, other)
        return self.clip.cosines([picture], [(wanted, other)])[0].tolist()


@dataclass(frozen=True)
class Efficacy(Nearness):
    """Did the edit take? Pictures of the edited prompt that are closer to its new meaning than to the old one."""


@dataclass(frozen=True)
class Generality(Nearness):
    """Does the edit carry? Pictures of prompts that mention what was edited and are closer to its new meaning."""


@dataclass(frozen=True)
class Specificity(Nearness):
    """Did the edit leak? Pictures of other prompts that are closer to themselves than to what a leak makes of them."""


def seen_likeness(detection: Detection, wanted: str, other: str) -> list[float]:
    """How alike a picture and two texts are by what a detector sees in it.

    Where each names a label of its own: the scores of the two. Else a text is told by the words that the other does not
    have ("a rose on a blue background" by "on", "blue" and "background"): 1 where one of them names something that is
    seen, the first label or an attribute's value, 0 where none does. A text without such words is at 0.5: the picture
    is nearer to it unless something is seen that the other adds.

    Raises:
        EditkitError: `wanted` names no label.
    """
    labels = [_named(text, detection.labels) for text in (wanted, other)]
    if not labels[0]:
        raise EditkitError(f"TIME's figures: expected a label of the detector in {wanted!r}, found none")
    if labels[1] and labels[0] != labels[1]:
        return [detection.score(label) for label in labels]
    words = [{*re.findall(r"\w+", text.casefold())} for text in (wanted, other)]
    names = (*detection.labels[:1], *detection.attributes.values())
    seen = {word for name in names for word in name.casefold().split()}
    own = (words[0] - words[1], words[1] - words[0])
    return [float(not mine.isdisjoint(seen)) if mine else 0.5 for mine in own]


def _named(text: str, labels: Sequence[str]) -> str:
    """The label that a text names, the longest where it names several; empty where it names none."""
    inside = [label for label in labels if re.search(rf"\b{re.escape(label)}\b", text, re.IGNORECASE)]
    return max(inside, key=len, default="")
