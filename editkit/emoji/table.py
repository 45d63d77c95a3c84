"""Measure edits of the bundled model, on the four splits of `emoji-objects` mostly: `python -m editkit.emoji.table`.

Every row makes one edit a split, which `evaluate` draws and judges. What was seen in every picture is kept, so that
the tables of the documentation and their intervals come from the committed file alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from editkit.emoji.refine_rows import refine_rows
from editkit.emoji.rows import Row, closed_form_rows
from editkit.emoji.sheets import DELTA, RATES, SHEETS, as_table
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.suites.suite import Suite, load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.variants.named import BASE, record_of


def main() -> None:
    known = {row.name: row for row in (*closed_form_rows(), *refine_rows())}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    parser.add_argument("--work", type=Path, help="folder for edits and pictures, kept; default: a temporary one")
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--splits", nargs="+", help="default: all of a row's suite")
    parser.add_argument("--time-again", action="store_true", help="make closed-form edits again, and note the seconds")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose names begin so")
    given = parser.parse_args()
    chosen = [row for row in known.values() if not given.only or row.name.startswith(tuple(given.only))]
    with tempfile.TemporaryDirectory() as temporary:
        if given.time_again:
            measured = time_again(chosen, given.out, Path(temporary))
        else:
            measured = measure_rows(chosen, given.splits, given.seeds, given.out, given.work or Path(temporary))
    for sheet in SHEETS:
        Console().print(as_table(sheet, measured))


def measure_rows(
    rows: Sequence[Row], splits: Sequence[str] | None, seeds: str, out: Path, work: Path, model: str = "emoji"
) -> dict[str, Any]:
    """Measure what `out` does not hold yet, and add it there, split by split."""
    suites = {name: load_suite(name) for name in sorted({row.suite for row in rows})}
    results = read(out) if out.exists() else {"suites": {}, "seeds": seeds, "rows": {}}
    hashes = {name: suite.sha256 for name, suite in suites.items()}
    if results["seeds"] != seeds or any(results["suites"].get(name, mark) != mark for name, mark in hashes.items()):
        raise EditkitError(f"{out}: was measured with another suite or other seeds; give another --out")
    results["suites"] |= hashes
    editable = open_model(model)
    names = dict.fromkeys(split for suite in suites.values() for split in suite.splits)
    for row, split in ((row, split) for split in splits or names for row in rows):
        done = results["rows"].setdefault(row.name, {})
        if split not in done and split in suites[row.suite].splits:
            done[split] = _measure(editable, row, suites[row.suite], split, seeds, work / row.suite / split)
            write_text_atomic(out, json.dumps(results, indent=1) + "\n", force=True)
    return results


def _measure(model: EditableModel, row: Row, suite: Suite, split: str, seeds: str, work: Path) -> dict[str, Any]:
    """The rows of a split share a folder, so that the unedited model's pictures are drawn once."""
    compared = [BASE]
    start = time.perf_counter()
    if row.make is not None:
        place = work / row.slug
        work.mkdir(parents=True, exist_ok=True)
        compared.append(row.make(model, suite.concepts_in(split), place))
    seconds = time.perf_counter() - start
    name = model.source.name
    made = evaluate(
        compared, suite.name, work / "evaluation", name, split, seeds=seeds, metrics=(*RATES, DELTA), force=True
    )
    if made is None:
        raise EditkitError("the table is measured by one process; start it without a launcher")
    return {
        "seconds": round(seconds, 2),
        "figures": figures_of(compared[-1]),
        **outcomes_of(made.folder, made.variants[-1]),
    }


def time_again(rows: Sequence[Row], out: Path, work: Path) -> dict[str, Any]:
    """Seconds of the closed-form edits in `out`, for a machine that does nothing else meanwhile."""
    results, editable = read(out), open_model("emoji")
    for row in rows:
        for split, cell in results["rows"].get(row.name, {}).items():
            if row.make is not None and not cell["figures"]:
                start = time.perf_counter()
                row.make(editable, load_suite(row.suite).concepts_in(split), work / "again")
                cell["seconds"] = round(time.perf_counter() - start, 2)
    write_text_atomic(out, json.dumps(results, indent=1) + "\n", force=True)
    return results


def figures_of(variant: str) -> dict[str, Any]:
    """What the record of a gradient stage says of its run."""
    known = record_of(variant).get("figures", {})
    wanted = ("steps", "passes_per_step", "passes", "preserve_mean", "erase_mean", "seconds_per_step")
    return {name: known[name] for name in wanted if name in known}


def outcomes_of(folder: Path, variant: str) -> dict[str, dict[str, Any]]:
    """Metric → class → a digit a seed ("1" success), and the mean δ of every class."""
    from pyarrow import parquet

    numbers: dict[str, dict[str, Any]] = {name: {} for name in (*RATES, DELTA)}
    rows = parquet.read_table(folder / PARQUET).to_pylist()
    for row in sorted((row for row in rows if row["variant"] == variant), key=lambda row: row["seed"]):
        for name in RATES:
            if row[name] is not None:
                numbers[name][row["class"]] = numbers[name].get(row["class"], "") + str(int(row[name]))
        if row[DELTA] is not None:
            numbers[DELTA].setdefault(row["class"], []).append(row[DELTA])
    numbers[DELTA] = {name: round(statistics.mean(values), 4) for name, values in numbers[DELTA].items()}
    return numbers


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
