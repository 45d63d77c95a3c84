"""The figures that the stages of a run measured, and those of papers beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.chaining.opened import RecipeRun
from editkit.chaining.recipe import Published
from editkit.evaluation.statistics.intervals import Estimate
from editkit.report.figure_names import interval

WITHIN, OUTSIDE, NOT_MEASURED = "inside", "outside", "not measured"


@dataclass(frozen=True)
class Figure:
    """A value of one variant, in per cent where it is a rate.

    Attributes:
        metric: as `evaluate` names it; of an attack `asr:ATTACK`, its success with any picture.
    """

    stage: str
    variant: str
    metric: str
    is_rate: bool
    estimate: Estimate

    @property
    def scale(self) -> int:
        return 100 if self.is_rate else 1

    @property
    def shown(self) -> str:
        """Value and interval: `94 (90 to 97)`."""
        return interval(self.estimate.value, self.estimate.low, self.estimate.high, self.is_rate)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        named = {"stage": self.stage, "variant": self.variant, "metric": self.metric, "is_rate": self.is_rate}
        return named | self.estimate.as_dict()


@dataclass(frozen=True)
class Verdict:
    """A published figure beside what was measured: whether it lies in the measured interval."""

    published: Published
    measured: Figure | None

    @property
    def said(self) -> str:
        if self.measured is None:
            return NOT_MEASURED
        scale, estimate = self.measured.scale, self.measured.estimate
        return WITHIN if scale * estimate.low <= self.published.value <= scale * estimate.high else OUTSIDE

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        measured = None if self.measured is None else self.measured.as_dict()
        return {**vars(self.published), "measured": measured, "verdict": self.said}


def figures_of(made: RecipeRun) -> list[Figure]:
    """What every stage of `evaluate` and `attack` measured, in their order."""
    readers = {"evaluate": _of_results, "attack": _of_attacks}
    return [
        figure
        for job in made.jobs
        if job.do in readers
        for figure in readers[job.do](made.folder / job.name / job.name, job.name)
    ]


def verdicts_of(made: RecipeRun, figures: list[Figure]) -> list[Verdict]:
    """Every published figure of the recipe with what was measured of the same."""
    stages = {job.name: job.stage for job in made.jobs}

    def measured(each: Published) -> Figure | None:
        return next(
            (
                figure
                for figure in figures
                if each.stage in (figure.stage, stages[figure.stage])
                and (figure.variant, figure.metric) == (each.variant, each.metric)
            ),
            None,
        )

    return [Verdict(each, measured(each)) for each in made.recipe.published]


def _of_results(folder: Path, stage: str) -> Iterator[Figure]:
    from editkit.evaluation.results import read_results

    results = read_results(folder)
    for name, metric in results.record["metrics"].items():
        for variant in results.variants:
            estimate = results.value(name, variant)
            if estimate.count:
                yield Figure(stage, variant, name, bool(metric["is_rate"]), estimate)


def _of_attacks(folder: Path, stage: str) -> Iterator[Figure]:
    from editkit.redteam.run import RUN

    for line in json.loads((folder / RUN).read_text(encoding="utf-8"))["lines"]:
        estimate = Estimate.from_dict(line["all"])
        if estimate.count:
            yield Figure(stage, line["variant"], f"asr:{line['attack']}", True, estimate)
