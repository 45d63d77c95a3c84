"""Is the damage in closed form that of the pictures? `python -m editkit.emoji.damage_table`.

Five objects are erased by each method under its protection; others are drawn with the same noise before and after. The
closed form's damage of each is set beside what the judge's probability of it lost. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editkit.edits.method import Options
from editkit.emoji.catalogue import catalogue
from editkit.emoji.protect_table import Split
from editkit.emoji.rows import OBJECTS
from editkit.emoji.sheets import markdown
from editkit.emoji.shown import STEPS, Shown
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.rank_correlation import spearman
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import open_model
from editkit.report.charts.scatter import Point, scatter_chart
from editkit.report.charts.svg import Markup
from editkit.report.plot_file import write_plot

OUT = Path("tests/bench/damage.json")
EDITS = tuple(f"{method}, {protect}" for method in ("uce", "rece", "speed", "dp") for protect in ("minimax", "null"))
UNPROTECTED = ("uce, none", "rece, none")
OBJECTS_DRAWN, SEEDS = 24, (0,)
UNEDITED = "unedited"
COLUMNS = ("edit", "rank correlation", "median damage", "mean loss in pictures", "objects")


def objects() -> list[str]:
    """Some of those that are in no suite, drawn by a seed."""
    others = [word for word in catalogue().objects if word not in load_suite(OBJECTS).classes]
    return sorted(random.Random(2).sample(others, OBJECTS_DRAWN))


def measure(split: Split, name: str, shown: Shown) -> dict[str, list[float]]:
    """Of each object the judge's probability of it, and the damage in closed form."""
    if name == UNEDITED:
        return {"shares": _rounded(shown.shares(None, objects(), SEEDS))}
    method, protect = name.split(", ")
    edit = erase(split.model, split.erased, options=Options(method, protect=protect), checked=False)
    damage = split.damage(edit, objects()).tolist()
    return {"shares": _rounded(shown.shares(edit, objects(), SEEDS)), "damage": [float(f"{x:.4g}") for x in damage]}


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row an edit: Spearman's ρ over the objects with its 95 % interval, objects resampled."""
    before = results["edits"][UNEDITED]["shares"]
    for name, made in results["edits"].items():
        if name == UNEDITED:
            continue
        lost = [first - after for first, after in zip(before, made["shares"], strict=True)]
        found = spearman(made["damage"], lost)
        middle = sorted(made["damage"])[len(lost) // 2]
        told = f"{found.rho:.2f} ({found.low:.2f} to {found.high:.2f})"
        yield name, told, f"{middle:.2g}", f"{sum(lost) / len(lost):.3f}", str(len(lost))


def plot(results: dict[str, Any]) -> Markup:
    """A point an object and edit: what the pictures lost against the closed form, in logarithms."""
    before, names = results["edits"][UNEDITED]["shares"], [name for name in results["edits"] if name != UNEDITED]
    points = [
        Point("", n, damage, first - after, said=f"{word}, {name}")
        for n, name in enumerate(names)
        for word, damage, first, after in zip(
            results["objects"], results["edits"][name]["damage"], before, results["edits"][name]["shares"], strict=True
        )
    ]
    says = f"What pictures of {len(before)} objects lost under {len(names)} edits, against the damage in closed form."
    return scatter_chart(points, "damage in closed form", "loss in pictures", says, zero=False, log=(True, False))


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def read(path: Path) -> dict[str, Any]:
    """What was measured so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"edits": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--plot", type=Path, help="also draw what is in the file, as .svg or .png")
    given = parser.parse_args()
    model = open_model("emoji")
    split, shown = Split(model, "1"), Shown.of(model)
    names = (UNEDITED, *UNPROTECTED, *EDITS)
    for name in names:
        results = read(given.out)
        if name in results["edits"]:
            continue
        results |= {"steps": STEPS, "erased": split.erased, "objects": objects(), "seeds": SEEDS}
        results["edits"][name] = measure(split, name, shown)
        write_text_atomic(given.out, json.dumps(results, separators=(",", ":")) + "\n", force=True)
    results = read(given.out)
    print(as_markdown(results))
    if given.plot:
        write_plot(given.plot, plot(results), force=True)


if __name__ == "__main__":
    main()
