"""What gradient steps are worth: every objective, search and start on the bundled model.

    python -m editkit.emoji.refine_table --work runs/refine --out refine.json [--rows "cold AP" ...] [--splits 1 2]

One row of the table on one split at a time: train, draw, judge, write `WORK/ROW/SPLIT/result.json`. A call that is
stopped goes on where it was, and several calls may share a folder if they are given other rows or splits.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from editkit.concepts.templates import fill
from editkit.edit.options import defaults as edit_defaults
from editkit.editing import erase
from editkit.emoji.catalogue import catalogue
from editkit.model.atomic import write_atomic
from editkit.model.edit_file import load_edit, save_edit
from editkit.model.editable import EditableModel, open_model
from editkit.model.pipeline import load
from editkit.numbers.detectors.detection import Detector
from editkit.numbers.detectors.registry import load_detector
from editkit.numbers.erasure import judge_prompts
from editkit.numbers.suites.suite import load_suite
from editkit.pictures.prompts import parse_seeds
from editkit.pictures.sampler import Variant
from editkit.pictures.sampling import Sampling
from editkit.refine.checkpoint import NAME as CHECKPOINT
from editkit.refine.options import defaults
from editkit.refine.refine import refine

UNSAFE = "emoji-unsafe"
WIDE = 170
T_975_3 = 3.182
"""Student's t with three degrees of freedom, for the interval of a mean over four splits."""


@dataclass(frozen=True)
class Row:
    """One method. `edit` is a closed form (None with no `train`: the original); `train` are options of `refine`, which
    starts from that edit. `word` turns the suite `emoji-unsafe` round: the word "weapon" is erased, and judged on
    prompts that name the eight weapons."""

    name: str
    edit: Mapping[str, Any] | None = None
    train: Mapping[str, Any] | None = None
    suite: str = "emoji-objects"
    word: bool = False


RECE: Mapping[str, Any] = {"method": "rece", "protect": "minimax"}
UCE: Mapping[str, Any] = {"method": "uce", "protect": "none", "tokens": "all"}


def table_rows() -> Iterator[Row]:
    yield Row("original")
    yield Row("UCE", UCE)
    yield Row("UCE, tail", {**UCE, "tokens": "tail"})
    yield Row("RECE, minimax", RECE)
    yield Row("cold AP", None, {"objective": "ap", "steps": 1000})
    yield Row("warm AP, a quarter", RECE, {"objective": "ap", "steps": 250})
    yield Row("warm AP", RECE, {"objective": "ap", "steps": 1000})
    yield Row("AP, search exact", None, {"objective": "ap", "steps": 1000, "search": "exact"})
    yield Row("AP, search closed-form", None, {"objective": "ap", "steps": 1000, "search": "closed-form"})
    yield Row("warm AP, search closed-form", RECE, {"objective": "ap", "steps": 1000, "search": "closed-form"})
    yield Row("AGE", None, {"objective": "age", "steps": 1000})
    yield Row("ESD-x", None, {"objective": "esd", "steps": 1000, "param": "xattn"})
    yield Row("ESD-u", None, {"objective": "esd", "steps": 1000, "param": "noxattn"})
    yield Row("CA", None, {"objective": "ca", "steps": 400})
    yield Row("naive", None, {"objective": "naive", "steps": 1000})
    yield Row("AP, authors' recipe", None, {"objective": "ap", "steps": 1000, "recipe": "authors"})
    yield Row("AP 250 steps, bank", None, {"objective": "ap", "steps": 250})
    yield Row("AP 250 steps, no bank", None, {"objective": "ap", "steps": 250, "bank": False, "sampling_steps": 50})
    for word in (False, True):
        how = "the word" if word else "by name"
        ap = {"objective": "ap", "steps": 1000}
        yield Row(f"unsafe {how}: original", None, None, UNSAFE, word)
        yield Row(f"unsafe {how}: RECE, minimax", RECE, None, UNSAFE, word)
        yield Row(f"unsafe {how}: AP xattn", None, {**ap, "param": "xattn"}, UNSAFE, word)
        yield Row(f"unsafe {how}: AP noxattn", None, {**ap, "param": "noxattn"}, UNSAFE, word)


@dataclass(frozen=True)
class Task:
    """What is erased, and the prompts with the labels that each draws: erased, kept, and other words of the model."""

    erased: tuple[str, ...]
    gone: Mapping[str, tuple[str, ...]]
    stays: Mapping[str, tuple[str, ...]]
    others: Mapping[str, tuple[str, ...]]


def tasks(row: Row) -> dict[str, Task]:
    """Split → task."""
    suite = load_suite(row.suite)
    named = [label for labels in suite.classes.values() for label in labels]
    others = [name for name in catalogue().objects if name not in named][::4]
    known = {fill(suite.templates[0], name): (name,) for name in others}
    found = {}
    for split, classes in suite.splits.items():
        kept = [one for one in suite.classes if one not in classes]
        erased = tuple(concept for one in classes for concept in suite.concepts_of(one))
        gone = {fill(template, one): suite.labels_of(one) for template in suite.templates for one in classes}
        if row.word:
            erased, gone = classes, {fill(template, one): (one,) for template in suite.templates for one in erased}
        stays = {fill(template, one): suite.labels_of(one) for template in suite.templates for one in kept}
        found[split] = Task(erased, gone, stays, known)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/refine"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="collect all results there into one file")
    parser.add_argument("--seeds", help="default: the suite's")
    parser.add_argument("--rows", nargs="+", help="names of rows; default: all")
    parser.add_argument("--splits", nargs="+", help="default: all")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="options of every training run")
    parser.add_argument("--collect", action="store_true", help="measure nothing more")
    given = parser.parse_args()
    more = {name: json.loads(value) for name, value in (one.split("=", 1) for one in given.set)}
    if not given.collect:
        measure(given.work, given.seeds, given.rows, given.splits, more)
    results = collect(given.work)
    if given.out is not None:
        write_atomic(given.out, lambda part: _write(part, results), force=True)
    console = Console()
    console.width = max(console.width, WIDE)
    console.print(as_table(results))


def measure(
    work: Path,
    seeds: str | None = None,
    rows: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Fill `work`; what is there is not done again."""
    model, pipe, judge = open_model("emoji"), load("emoji"), load_detector("emoji-judge")
    for row in table_rows():
        drawn = parse_seeds(seeds or load_suite(row.suite).seeds)
        for split, task in tasks(row).items():
            folder = work / slug(row.name) / split
            chosen = (rows is None or row.name in rows) and (splits is None or split in splits)
            if not chosen or (folder / "result.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            variant = _variant(model, row, task, folder, more or {})
            result = {
                "row": row.name,
                "split": split,
                "suite": row.suite,
                "word": row.word,
                "erased": list(task.erased),
                "seeds": drawn,
                "rates": _judged(pipe, judge, variant, task, drawn),
                "figures": {} if variant is None else dict(variant.record["figures"]),
                "options": {} if variant is None else dict(variant.record["options"]),
            }
            write_atomic(folder / "result.json", lambda part, result=result: _write(part, result))


def _variant(model: EditableModel, row: Row, task: Task, folder: Path, more: Mapping[str, Any]) -> Variant:
    """Made, or read where an earlier call has made it; a run that was stopped goes on."""
    start = None
    if row.edit is not None:
        path = folder / "edit.safetensors"
        if not path.exists():
            guides = [" "] if row.edit["protect"] == "none" else []
            save_edit(erase(model, task.erased, guides, options=edit_defaults(**row.edit), checked=False), path)
        start = load_edit(path)
    if row.train is None:
        return start
    out = folder / "run"
    if (out / "tuned.safetensors").exists():
        return load_edit(out)
    options = defaults(**{"source": model.source, **row.train, **more})
    return refine(model, out, task.erased, start, options=options, resume=(out / CHECKPOINT).exists())


def _judged(pipe: Any, judge: Detector, variant: Variant, task: Task, seeds: Sequence[int]) -> dict[str, list[int]]:
    """Rate → hits and pictures."""
    sampling = Sampling(steps=20, guidance=3.0, batch=64)
    found = judge_prompts(pipe, judge, [*task.gone, *task.stays], seeds, sampling, variant)
    rates = {}
    for k in (1, 5):
        gone = [one.sees(task.gone[job.prompt], k) for job, one in found.items() if job.prompt in task.gone]
        stays = [one.sees(task.stays[job.prompt], k) for job, one in found.items() if job.prompt in task.stays]
        rates[f"esr{k}"] = [len(gone) - sum(gone), len(gone)]
        rates[f"psr{k}"] = [sum(stays), len(stays)]
    few = seeds[: max(1, len(seeds) // 5)]
    seen = [
        one.sees(task.others[job.prompt])
        for job, one in judge_prompts(pipe, judge, list(task.others), few, sampling, variant).items()
    ]
    rates["others1"] = [sum(seen), len(seen)]
    return rates


def collect(work: Path) -> dict[str, Any]:
    """Every `result.json` in `work`: row → split → result."""
    order = {row.name: {} for row in table_rows()}
    for path in sorted(work.glob("*/*/result.json")):
        result = json.loads(path.read_text())
        order.setdefault(result["row"], {})[result["split"]] = result
    return {"rows": {name: splits for name, splits in order.items() if splits}}


COLUMNS = ("row", "splits", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "others", "L2, mean", "passes a step", "s a step")
RATES = ("esr1", "esr5", "psr1", "psr5", "others1")


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Success rates in per cent: the mean over the splits, and the half width of its 95 % interval."""
    for name, splits in results["rows"].items():
        found = list(splits.values())
        rates = [_shown([100 * r["rates"][rate][0] / r["rates"][rate][1] for r in found if rate in r["rates"]])
                 for rate in RATES]  # fmt: skip
        figures = [one["figures"] for one in found]
        more = [
            _mean([figure[key] for figure in figures if key in figure])
            for key in ("preserve_mean", "passes_per_step", "seconds_per_step")
        ]
        yield name, str(len(found)), *rates, *more


def _shown(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) < 4:
        return f"{fmean(values):.1f}"
    return f"{fmean(values):.1f} ± {T_975_3 * stdev(values) / math.sqrt(len(values)):.1f}"


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" if values else ""


def as_table(results: dict[str, Any]) -> Table:
    table = Table(*COLUMNS)
    for row in as_rows(results):
        table.add_row(*row)
    return table


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _write(part: Path, value: Any) -> None:
    part.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
