"""One page for a whole run: what was made of what, what was measured, and what papers say."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editkit.chaining.figures import Figure, Verdict, figures_of, verdicts_of
from editkit.chaining.jobs import Job
from editkit.chaining.opened import COPY, RUN, RecipeRun, environment
from editkit.files.atomic import write_text_atomic
from editkit.report.page import styles, template

PAGE = "index.html"
LINKS: dict[str, Sequence[str]] = {
    "compare": (PAGE,), "evaluate": ("results.json",), "attack": ("report/index.html", "attack.json"),
    "card": ("README.md",), "verify": ("verify.json",),
}  # fmt: skip
"""What of a kind's folder a reader opens, the first that is there."""


def write_summary(made: RecipeRun) -> None:
    """`run.json` with every figure, and `index.html` for a reader."""
    figures = figures_of(made)
    verdicts = verdicts_of(made, figures)
    record = environment(made) | {
        "seconds": {job.name: made.seconds(job) for job in made.jobs},
        "figures": [figure.as_dict() for figure in figures],
        "published": [verdict.as_dict() for verdict in verdicts],
    }
    write_text_atomic(made.folder / RUN, json.dumps(record, indent=1, default=str) + "\n", force=True)
    write_text_atomic(made.folder / PAGE, page(made, figures, verdicts), force=True)


def page(made: RecipeRun, figures: Sequence[Figure], verdicts: Sequence[Verdict]) -> str:
    """The page, which needs no network; it links to what lies beside it."""
    recipe = made.recipe
    seconds = [made.seconds(job) for job in made.jobs]
    return template("run.html.j2").render(
        title=recipe.title, about=recipe.about, source=recipe.source, model=made.model.source.name, copy=COPY,
        record=RUN, styles=styles(False), stages=[_row(made, job) for job in made.jobs], tables=_tables(figures),
        verdicts=[_verdict(verdict) for verdict in verdicts], minutes=sum(seconds) / 60,
        grids=_grids(made), command=_command(made),
    )  # fmt: skip


def _grids(made: RecipeRun) -> list[str]:
    """The pictures of `compare`."""
    every = [made.folder / job.name / job.name / "grid.png" for job in made.jobs]
    return [_relative(made, grid) for grid in every if grid.exists()]


def _command(made: RecipeRun) -> str:
    shipped = made.recipe.path.parent.name == "shipped"
    words = ["editkit", "run", made.recipe.path.stem if shipped else made.recipe.path.name]
    words += ["--on", made.recipe.on] if made.recipe.on else []
    return shlex.join([*words, "--out", str(made.folder)])


def _row(made: RecipeRun, job: Job) -> dict[str, Any]:
    said = [f"{name} {_text(value)}" for name, value in job.said.items()]
    takes = [each.name if isinstance(each, Job) else each for every in job.inputs.values() for each in every]
    return {
        "name": job.name, "do": job.do, "said": "; ".join(said), "takes": ", ".join(takes),
        "seconds": made.seconds(job), "link": _link(made, job),
    }  # fmt: skip


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _link(made: RecipeRun, job: Job) -> str:
    folder = made.folder / job.name / job.name
    found = [folder / name for name in LINKS.get(job.do, ()) if (folder / name).exists()]
    return _relative(made, found[0] if found else made.folder / job.name)


def _relative(made: RecipeRun, path: Path) -> str:
    return path.relative_to(made.folder).as_posix() + (os.sep if path.is_dir() else "")


def _tables(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """A table a stage: variants down, metrics across."""
    tables = []
    for stage in dict.fromkeys(figure.stage for figure in figures):
        mine = [figure for figure in figures if figure.stage == stage]
        metrics = list(dict.fromkeys(figure.metric for figure in mine))
        cells = {(figure.variant, figure.metric): figure.shown for figure in mine}
        rows = [
            (variant, [cells.get((variant, metric), "–") for metric in metrics])
            for variant in dict.fromkeys(figure.variant for figure in mine)
        ]
        tables.append({"stage": stage, "metrics": metrics, "rows": rows})
    return tables


def _verdict(verdict: Verdict) -> dict[str, Any]:
    said, measured = verdict.published, verdict.measured
    return {**vars(said), "measured": "–" if measured is None else measured.shown, "verdict": verdict.said}
