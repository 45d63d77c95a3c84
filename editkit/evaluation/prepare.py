"""Everything that an evaluation decides before the first picture is drawn, so that no mistake costs an hour."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.concepts.profile import Profile
from editkit.drawing.generate import row_guidances
from editkit.drawing.pipelines import check_drawable
from editkit.drawing.prompt_file import PromptFile
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.evaluation.detectors.judge import chosen_judge
from editkit.evaluation.judging import Folder, NoDetector
from editkit.evaluation.known import check_detector
from editkit.evaluation.metrics.metric import Kit, Metric
from editkit.evaluation.metrics.named import metric, weight_names
from editkit.evaluation.plan import Plan, make_plan
from editkit.evaluation.suites.suite import FROM_TIME, Suite
from editkit.evaluation.time_prompts import TimePrompts
from editkit.files.text.table import Layout
from editkit.model.checkpoints.source import Source
from editkit.model.editable import open_model
from editkit.variants.named import BASE, free_name, read_variants, variant_name, variant_sha256
from editkit.versions import RESULTS, versions


@dataclass(frozen=True)
class Entry:
    """One variant under evaluation.

    Attributes:
        name: `base`, or the file's name without its ending; numbered where two are alike.
        file: what the user typed.
    """

    name: str
    file: str
    variant: Variant | None
    sha256: str | None

    @property
    def record(self) -> dict[str, Any]:
        said = {} if self.variant is None else self.variant.record
        keys = ("method", "concepts", "guides", "preserve", "options", "profile", "gate")
        kept = {key: said[key] for key in keys if key in said}
        return {"name": self.name, "file": self.file, "sha256": self.sha256, **kept}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that can start.

    Attributes:
        model: name and hashes.
        total: pictures a variant.
        guidances: those of a prompt file's rows, None for the usual one.
        notes: what the user should know of the plan.
    """

    out: Path
    source: Source
    model: Mapping[str, str]
    entries: Sequence[Entry]
    plan: Plan
    total: int
    detector: Detector
    metrics: Sequence[Metric]
    sampling: Sampling
    guidances: Sequence[float | None]
    notes: Sequence[str]

    def folder(self, name: str) -> Folder:
        return Folder(self.out / "pictures" / name, self.out / "detections" / f"{name}.jsonl.gz")

    @property
    def base(self) -> str | None:
        """The name of the unedited model, if it is drawn."""
        return next((entry.name for entry in self.entries if entry.variant is None), None)

    @property
    def protocol(self) -> dict[str, Any]:
        """All that a number depends on beside the edit. Results with different protocols do not compare."""
        return {
            **self.picture_settings,
            **self.plan.record,
            "profile": self.source.profile.record,
            "detector": self.detector.name,
            "checkpoints": {metric.name: metric.checkpoint for metric in self.metrics if metric.checkpoint is not None},
        }

    @property
    def picture_settings(self) -> dict[str, Any]:
        """What a picture of a prompt and seed depends on beside the edit."""
        return {
            "model": self.model,
            "sampling": {**self.sampling.record, "guidance of the rows": self.guidances != [None]},
            "versions": versions(RESULTS),
        }


def prepare(
    out: Path,
    source: Source,
    edits: Sequence[str | os.PathLike[str]],
    suite: Suite,
    prompts: Path | None,
    skip_bad_rows: bool,
    split: str | None,
    seeds: Sequence[int] | None,
    settings: Settings,
    weights: Mapping[str, Path] | None = None,
    reference: Path | None = None,
    layout: Layout | None = None,
) -> Evaluation:
    """Read the edits, choose the split, load the detector, and count the pictures. The unedited model is added where a
    metric compares with it.

    Raises:
        EditkitError: whatever cannot work.
    """
    check_drawable(source)
    kit = Kit(suite.debias, _checked_weights(weights or {}), reference)
    metrics = [metric(name, kit) for name in suite.metrics]
    names = [os.fspath(edit) for edit in edits]
    added = any(metric.needs_original for metric in metrics) and BASE not in names
    entries = _entries(source, [BASE, *names] if added else names)
    erased_by = {entry.name: entry.record.get("concepts", []) for entry in entries if entry.variant is not None}
    rows = None if prompts is None else _prompts(suite, prompts, skip_bad_rows, entries, layout)
    plan, notes = make_plan(suite, rows, erased_by, split, seeds)
    sampling = Sampling.for_model(source, **settings)
    check_drawing(source, sampling, [entry.variant for entry in entries])
    detector = _detector(suite, plan, metrics, kit, source.profile)
    check_detector(plan, metrics, detector)
    opened = open_model(source)
    return Evaluation(
        out=out,
        source=source,
        model={
            "name": source.name,
            "projections_sha256": opened.projections_sha256,
            "text_encoder_sha256": opened.text_encoder_sha256,
        },
        entries=entries,
        plan=plan,
        total=sum(1 for _ in plan),
        detector=detector,
        metrics=metrics,
        sampling=sampling,
        guidances=row_guidances((case.guidance for case in plan), settings),
        notes=notes,
    )


def _prompts(
    suite: Suite, path: Path, skip_bad_rows: bool, entries: Sequence[Entry], layout: Layout | None
) -> PromptFile | TimePrompts:
    if suite.prompts != FROM_TIME:
        return PromptFile.open(path, skip_bad_rows, layout)
    records = {entry.name: entry.record for entry in entries if entry.variant is not None}
    changes = {name: (record.get("concepts", []), record.get("guides", [])) for name, record in records.items()}
    return TimePrompts.open(path, changes, layout)


def _entries(source: Source, names: Sequence[str]) -> list[Entry]:
    """The variants, each under a name of its own."""
    entries: list[Entry] = []
    for file, variant in zip(names, read_variants(source, names), strict=True):
        name = free_name(variant_name(file), [entry.name for entry in entries])
        entries.append(Entry(name, file, variant, variant_sha256(file)))
    return entries


def _detector(suite: Suite, plan: Plan, metrics: Sequence[Metric], kit: Kit, profile: Profile) -> Detector:
    """The suite's, with the options of the profile's judge where it is that one. Without one, that judge, if any metric
    asks."""
    asking = [metric.name for metric in metrics if metric.needs_detector]
    judge = profile.judge
    name = suite.detector or (judge.name if asking and judge is not None else "")
    if not name:
        if asking:
            raise EditkitError(f"metric {asking[0]}: asks a detector, and suite {suite.name} has none; give --detector")
        return NoDetector()
    own = judge.options if judge is not None and judge.name == name else None
    options: dict[str, Any] = {"weights": kit.weights["detector"]} if "detector" in kit.weights else {}
    if name == "clip-zero-shot":
        options = {"labels": sorted({label for name in plan.names.values() for label in suite.labels_of(name)})}
        if "clip" in kit.weights or own is None or "folder" not in own:
            options["folder"] = kit.clip
    detector = chosen_judge(profile, name, **options)
    assert detector is not None  # it has a name
    return detector


def _checked_weights(weights: Mapping[str, Path]) -> Mapping[str, Path]:
    known = sorted({"detector", *weight_names()}) if weights else []
    for name, path in weights.items():
        if name not in known:
            raise EditkitError(f"--weights {name}={path}: expected one of {', '.join(known)} before the =")
        if not path.exists():
            raise EditkitError(f"--weights {name}={path}: no such file or folder; check the path")
    return weights
