"""The README's table from a run of `papers.toml`: `editkit run papers`, then `python -m editkit.emoji.papers_table`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from editkit.chaining.opened import RecipeRun, open_run
from editkit.emoji.sheets import SELECTION, as_table
from editkit.emoji.table import figures_of, outcomes_of
from editkit.errors import EditkitError
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.variants.named import BASE

OUT = Path("tests/bench/papers.json")
ROWS = {
    "original": BASE,
    "UCE last, none": "uce-published-{}",
    "RECE, none": "rece-published-{}",
    "UCE tail, minimax": "uce-{}",
    "RECE, minimax": "rece-{}",
    "AP, warm, 250 steps": "ap-warm-{}",
    "AGE": "cold-{}-age",
    "ESD-x": "cold-{}-esd",
    "CA": "cold-{}-ca",
}
"""Row of the table → the stage that made its edit, with the split in its place."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/papers"), help="of `editkit run papers`")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    results = gathered(open_run("papers", asked.folder))
    write_text_atomic(asked.out, json.dumps(results, indent=1) + "\n", force=True)
    Console().print(as_table(SELECTION, results))


def gathered(run: RecipeRun) -> dict[str, Any]:
    """What was seen in every picture, in the form of `editkit.emoji.table`, and the minutes that it all took.

    Raises:
        EditkitError: a stage is not done.
    """
    check_done(run)
    scores = {job.said["split"]: job for job in run.jobs if job.stage.startswith("scores")}
    suites = {job.said["suite"] for job in scores.values()}
    seconds = {job.name: run.seconds(job) for job in run.jobs}
    rows: dict[str, Any] = {name: {} for name in ROWS}
    for split, job in scores.items():
        for name, stage in ROWS.items():
            made = stage.format(split)
            product = BASE if made == BASE else str(run.folder / made / made)
            rows[name][split] = {
                "seconds": round(seconds.get(made, 0.0), 2),
                "figures": figures_of(product) if Path(product).is_dir() else {},
                **outcomes_of(run.folder / job.name / job.name, made),
            }
    return {
        "suites": {name: load_suite(name).sha256 for name in sorted(suites)},
        "seeds": next(iter(scores.values())).said["seeds"],
        "minutes": round(sum(seconds.values()) / 60, 1),
        "rows": rows,
    }


def check_done(run: RecipeRun) -> None:
    """Raises `EditkitError` where a stage is not."""
    left = next((job.name for job in run.jobs if not run.done(job)), None)
    if left is not None:
        name = run.recipe.path.stem
        raise EditkitError(f"{run.folder}: {left} is not done; run `editkit run {name} --out {run.folder}` to its end")


if __name__ == "__main__":
    main()
