"""What was measured of one edit: its rows of `results.json` and `attack.json`, known by the hash of its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.results import RESULTS, read_results
from editkit.evaluation.statistics.intervals import Estimate
from editkit.publishing.subject import Subject
from editkit.redteam.run import RUN
from editkit.variants.named import BASE

SHORT = 12
"""Digits of a hash in an error."""


@dataclass(frozen=True)
class Rate:
    """One metric of the edit, and of the unedited model where that was measured, too."""

    metric: str
    higher_is_better: bool | None
    is_rate: bool
    edited: Estimate
    base: Estimate | None
    classes: Mapping[str, Estimate]

    @property
    def is_about_others(self) -> bool:
        """Whether it tells what became of concepts that must stay."""
        return self.metric.startswith(("psr", "sensitivity-keep"))


@dataclass(frozen=True)
class Plain:
    """What `evaluate` measured: prompts as users type them."""

    suite: str
    split: str | None
    detector: str
    pictures: int
    erased: Sequence[str]
    clusters: str
    rates: Sequence[Rate]


@dataclass(frozen=True)
class Attacked:
    """What one attack did.

    Attributes:
        before: how often the plain prompts show the concept at the same seeds.
        all: how often any picture of an attempt does.
        rest: the same, of attempts whose plain prompt does not.
        control: `all` of the unedited model; None where that was not attacked.
        loss: the mean of the attack's own loss.
    """

    attack: str
    changes: str
    attempts: int
    before: Estimate
    all: Estimate
    rest: Estimate
    control: Estimate | None
    loss: float | None

    @property
    def is_judged(self) -> bool:
        """Whether any picture was drawn."""
        return bool(self.all.count)


@dataclass(frozen=True)
class Attacks:
    """What `attack` measured in one run."""

    concepts: Sequence[str]
    judge: str | None
    budget: str
    replayed: bool
    attacks: Sequence[Attacked]


def read_plain(path: str | os.PathLike[str], subject: Subject) -> Plain:
    """The results of an evaluation.

    Args:
        path: a `results.json`, or the folder that holds one.

    Raises:
        EditkitError: it is none, or measured another edit or the edit in another model.
    """
    results = read_results(Path(path))
    record, place = results.record, results.folder / RESULTS
    variants = {each["name"]: each["sha256"] for each in record["variants"]}
    mine = _mine(place, variants, subject)
    protocol = record["protocol"]
    _check_model(place, protocol["model"], subject)
    base = next((name for name, sha256 in variants.items() if sha256 is None), None)

    def rate(name: str, metric: Mapping[str, Any]) -> Rate:
        own = metric["variants"][mine]
        classes = {label: Estimate.from_dict(stored) for label, stored in own["classes"].items()}
        original = None if base is None else results.value(name, base)
        better, is_rate = metric["higher_is_better"], bool(metric["is_rate"])
        return Rate(name, better, is_rate, Estimate.from_dict(own["all"]), original, classes)

    return Plain(
        protocol["suite"]["name"], protocol["split"], protocol["detector"], record["pictures"], protocol["erased"],
        f"{record['intervals']['count']} {record['intervals']['clusters']}s",
        [rate(name, metric) for name, metric in record["metrics"].items()],
    )  # fmt: skip


def read_attacks(path: str | os.PathLike[str], subject: Subject) -> Attacks:
    """The findings of a run of attacks.

    Args:
        path: an `attack.json`, or the folder that holds one.

    Raises:
        EditkitError: it is none or of a run that did not end, or attacked another edit or the edit in another model.
    """
    place = Path(path) / RUN if Path(path).is_dir() else Path(path)
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditkitError(f"{place}: expected the {RUN} of an attack, but it cannot be read ({error})") from error
    if not isinstance(content, dict) or not {"variants", "concepts"} <= (content.get("record") or {}).keys():
        raise EditkitError(f"{place}: expected the {RUN} of an attack, this is other JSON")
    if "lines" not in content:
        raise EditkitError(f"{place}: is of an attack that did not end; start it again with the same --out")
    record = content["record"]
    mine = _mine(place, record["variants"], subject)
    _check_model(place, record, subject)
    controls = {line["attack"]: Estimate.from_dict(line["all"]) for line in content["lines"] if line["variant"] == BASE}
    return Attacks(
        [*record["concepts"]], record["judge"], record["budget"], record["replay"] is not None,
        [_attacked(line, controls.get(line["attack"])) for line in content["lines"] if line["variant"] == mine],
    )  # fmt: skip


def _attacked(line: Mapping[str, Any], control: Estimate | None) -> Attacked:
    before, every, rest = (Estimate.from_dict(line[name]) for name in ("before", "all", "rest"))
    return Attacked(
        line["attack"], line["changes"], line["attempts"], before, every, rest, control, line["loss"]
    )  # fmt: skip


def _mine(place: Path, variants: Mapping[str, str | None], subject: Subject) -> str:
    """The name under which the edit was measured."""
    mine = next((name for name, sha256 in variants.items() if sha256 == subject.sha256), None)
    if mine is None:
        known = ", ".join(f"{name} ({sha256[:SHORT]}…)" for name, sha256 in variants.items() if sha256) or "no edit"
        raise EditkitError(
            f"{place}: measured {known}, and not {subject.name} ({subject.sha256[:SHORT]}…): the hashes of the files "
            "differ; give results of this edit"
        )
    return mine


def _check_model(place: Path, measured: Mapping[str, Any], subject: Subject) -> None:
    """An edit that fits several checkpoints has other rates in each."""
    for key in ("projections_sha256", "text_encoder_sha256"):
        mine, theirs = subject.record.get(key), measured.get(key)
        if mine is not None and theirs is not None and mine != theirs:
            raise EditkitError(
                f"{place}: measured {subject.name} in another model than it was made for ({key} differs); give results "
                "of that model"
            )
