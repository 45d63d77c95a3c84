"""TIME's figures as rates over pictures: efficacy, generality, specificity; see `editkit.evaluation.time_metrics`."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.metrics.metric import Metric, Seen
from editkit.evaluation.networks.clip import Clip
from editkit.evaluation.time_metrics import Trial, detector_similarity, time_outcomes


class Nearness(Metric):
    """`efficacy`, `generality`, `specificity`: share of pictures that CLIP finds closer to the text that they must be
    closer to. With `-seen` at the end the detector's scores decide. An error is no success."""

    is_rate = True
    higher_is_better = True

    def __init__(self, kind: str, clip: Clip | None) -> None:
        self.kind, self.clip = kind, clip
        self.name = kind if clip is not None else f"{kind}-seen"
        self.needs_detector, self.checkpoint = clip is None, None if clip is None else clip.name

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [None if one.closer is None or one.label != self.kind else self._one(one, *one.closer) for one in seen]

    def _one(self, seen: Seen, wanted: str, other: str) -> float:
        picture = seen.picture()
        if picture is None or (self.clip is None and not seen.is_judged):
            return 0.0
        alike = detector_similarity(_Said(seen.detection)) if self.clip is None else self.clip.cosines
        return float(time_outcomes([picture], [Trial(self.kind, seen.prompt, wanted, other)], alike)[0])


class _Said:
    """A detector that has looked already."""

    name = "said"

    def __init__(self, detection: Detection) -> None:
        self.detection = detection

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return [self.detection] * len(pictures)
