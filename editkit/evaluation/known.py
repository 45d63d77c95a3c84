"""Can the detector see what a suite asks for? One that cannot would call everything erased, and everything safe."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.evaluation.metrics.metric import ERASE, KEEP, Metric, Observation
from editkit.evaluation.plan import Plan

WHOLE = 0.999
"""Scores that sum to this are those of all classes, and not of the first few."""


def check_detector(plan: Plan, metrics: Sequence[Metric], detector: Detector) -> None:
    """Let the detector look at a grey picture before any other is drawn, and the metrics at what it says.

    Raises:
        EditkitError: a metric is for other detectors, or a class is none of the detector's.
    """
    (said,) = detector.detect([Image.new("RGB", (64, 64), "gray")])
    if said.error is not None:
        return
    grey = [
        Observation("", "", role, (), said, Path(), part.attribute)
        for part in plan.suite.parts
        for role in (ERASE, KEEP)
    ]
    for metric in metrics:
        if metric.needs_detector:
            metric.measure(grey)
    if not said.boxes and sum(said.scores) > WHOLE:
        check_classes(plan, metrics, detector.name, set(said.labels))


def check_labels(detector: Detector, concept: str, labels: Sequence[str]) -> None:
    """Refuse a concept that a detector never says, by the labels that it gives a grey picture.

    Raises:
        EditkitError: with near labels.
    """
    (said,) = detector.detect([Image.new("RGB", (64, 64), "gray")])
    whole = said.error is None and not said.boxes and sum(said.scores) > WHOLE
    if whole and not {label.casefold() for label in said.labels} & {label.casefold() for label in labels}:
        near = get_close_matches(labels[0], said.labels, 3) or sorted(said.labels)[:5]
        raise EditkitError(
            f"concept {concept!r}: detector {detector.name} never says {labels[0]!r}; near to it are "
            f"{', '.join(near)}; give another --detector, or a profile whose judge has labels for it"
        )


def check_classes(plan: Plan, metrics: Sequence[Metric], detector: str, said: set[str]) -> None:
    """Refuse a class that is none of the labels `said`.

    Raises:
        EditkitError: the class, and some labels.
    """
    if not said:
        return
    if not any(metric.needs_labels for metric in metrics):
        return
    for label in dict.fromkeys(case.label for case in plan):
        wanted = plan.suite.labels_of(label)
        if plan.suite.attribute_of(label) is None and not said & set(wanted):
            raise EditkitError(
                f"detector {detector}: never says {wanted[0]!r}, so the class would count as erased; it says "
                f"{', '.join(sorted(said)[:5])}, ...; give another --detector, or the class its labels in the suite"
            )
