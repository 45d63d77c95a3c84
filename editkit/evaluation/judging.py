"""Let a detector look at every picture of a variant, keep all that it says, and take the metrics' numbers from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.metrics.metric import Metric, Observation, open_picture
from editkit.evaluation.plan import PictureCase, Plan
from editkit.evaluation.statistics.intervals import Estimate
from editkit.files.atomic import write_atomic
from editkit.progress import progress

T = TypeVar("T")
BATCH = 64


@dataclass(frozen=True)
class Folder:
    """Where the pictures of a variant are, and where what is seen in them goes: one JSON object a line, gzipped."""

    pictures: Path
    detections: Path

    def read(self) -> Iterator[Detection]:
        """The stored detections, in the order of the plan."""
        with gzip.open(self.detections, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield Detection.from_dict(json.loads(line))


@dataclass
class Judgement:
    """What is kept in memory of a variant: a few numbers a picture.

    Attributes:
        numbers: metric → one number a picture, None where the metric is not about it.
        tops: the most probable label and its score.
        attributes: what else was said of each picture.
        labels: every label that the detector said of any picture.
        sets: the metrics that have one number for all pictures.
        errors: why a picture could not be judged; None where it could.
    """

    numbers: dict[str, list[float | None]]
    tops: list[tuple[str | None, float | None]] = field(default_factory=list)
    attributes: list[Mapping[str, str]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    sets: dict[str, Estimate] = field(default_factory=dict)
    errors: list[str | None] = field(default_factory=list)

    @property
    def error_count(self) -> int:
        return sum(error is not None for error in self.errors)


class NoDetector:
    """For suites whose metrics look at the pictures themselves."""

    name = "none"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return [Detection()] * len(pictures)


def judge_variant(
    plan: Plan,
    mine: Folder,
    detector: Detector,
    metrics: Sequence[Metric],
    original: Folder | None,
    total: int,
    what: str,
) -> Judgement:
    """Judge every picture of `plan` in `mine`, and write the raw detections.

    Args:
        original: the unedited model's pictures and detections, for the metrics that compare with them.
        total: number of pictures, for the progress bar.
    """
    judged = Judgement({metric.name: [] for metric in metrics})
    before = None if original is None else original.read()

    def write(part: Path) -> None:
        with gzip.open(part, "wt", encoding="utf-8") as stream:
            for asked in _chunks(progress(plan, total, what), BATCH):
                detections = detect_files(detector, [mine.pictures / case.file for case in asked])
                compared = [None] * len(asked) if before is None else list(islice(before, len(asked)))
                seen = [
                    _seen(plan, case, detection, mine, previous, original)
                    for case, detection, previous in zip(asked, detections, compared, strict=True)
                ]
                for case, detection in zip(asked, detections, strict=True):
                    line = {"picture": case.file, "prompt": case.prompt, "class": case.label, **_rounded(detection)}
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                _note(judged, metrics, seen)

    write_atomic(mine.detections, write, force=True)
    for metric in metrics:
        if metric.is_of_sets:
            originals = None if original is None else [original.pictures / case.file for case in plan]
            value = metric.of_set([mine.pictures / case.file for case in plan], originals)
            judged.sets |= {} if value is None else {metric.name: value}
    return judged


def detect_files(detector: Detector, paths: Sequence[Path]) -> list[Detection]:
    """One detection a file. A file that is no picture is an error in its place.

    Raises:
        EditkitError: the detector did not answer for every picture.
    """
    opened = [open_picture(path) for path in paths]
    pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
    detections = detector.detect(pictures) if pictures else []
    if len(detections) != len(pictures):
        raise EditkitError(
            f"detector {detector.name}: expected {len(pictures)} detections, one a picture, got {len(detections)}"
        )
    answers = iter(detections)
    return [next(answers) if isinstance(picture, Image.Image) else Detection(error=picture) for picture in opened]


def _seen(
    plan: Plan,
    asked: PictureCase,
    detection: Detection,
    mine: Folder,
    previous: Detection | None,
    original: Folder | None,
) -> Observation:
    return Observation(
        asked.prompt,
        asked.label,
        asked.role,
        plan.suite.labels_of(asked.label),
        detection,
        mine.pictures / asked.file,
        plan.suite.attribute_of(asked.label),
        asked.subject,
        asked.closer,
        previous,
        None if original is None else original.pictures / asked.file,
    )


def _note(judged: Judgement, metrics: Sequence[Metric], seen: Sequence[Observation]) -> None:
    for metric in metrics:
        judged.numbers[metric.name] += metric.measure(seen)
    for observation in seen:
        detection = observation.detection
        judged.tops.append((detection.labels[0], detection.scores[0]) if detection.labels else (None, None))
        judged.attributes.append(detection.attributes)
        judged.labels.update(detection.labels)
        judged.errors.append(detection.error)


def _rounded(detection: Detection) -> dict[str, Any]:
    """Six digits of every score: what a thousand labels a picture are worth."""
    return detection.as_dict() | {"scores": [float(f"{score:.6g}") for score in detection.scores]}


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while some := list(islice(waiting, size)):
        yield some
