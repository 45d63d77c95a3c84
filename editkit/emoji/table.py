"""What is whose merit: every method with every protection on the bundled model. `python -m editkit.emoji.table`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from editkit.edit.options import Options, defaults
from editkit.editing import erase
from editkit.emoji.catalogue import catalogue
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.model.pipeline import load
from editkit.model.source import find
from editkit.numbers.erasure import measure_erasure
from editkit.numbers.judge import load_judge
from editkit.pictures.prompts import parse_seeds
from editkit.pictures.sampler import Sampling

FIRST_FIVE = ("church", "parachute", "fuel pump", "dog", "trumpet")
OTHER_FIVE = ("mosque", "fish", "delivery truck", "axe", "pizza")


def rows() -> Iterator[tuple[str, Options, str]]:
    """Name, options and guide of every row of the table."""
    for protect, guide in (("none", " "), ("prior", "average"), ("minimax", "average")):
        yield f"TIME, {protect}", defaults("time", protect, tokens="all"), guide
        for tokens in ("last", "tail", "all"):
            yield f"UCE {tokens}, {protect}", defaults("uce", protect, tokens=tokens), guide
        yield f"RECE, {protect}", defaults("rece", protect), guide
    yield "RECE composed, minimax", defaults("rece", "minimax", joint=False), "average"
    yield "UCE tail, minimax, nearest", defaults("uce", "minimax"), "nearest"
    yield "UCE tail, minimax, empty guide", defaults("uce", "minimax"), " "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("table.json"))
    parser.add_argument("--seeds", default="0-7")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th kept concept, to save time")
    given = parser.parse_args()
    results = measure_table(parse_seeds(given.seeds), given.every, given.out)
    Console().print(as_table(results))


def measure_table(seeds: Sequence[int], every: int = 1, out: Path | None = None) -> dict[str, Any]:
    """Rows that `out` holds already are not measured again."""
    results: dict[str, Any] = {"seeds": list(seeds), "every": every, "erased": [FIRST_FIVE, OTHER_FIVE], "rows": {}}
    if out is not None and out.exists():
        saved = json.loads(out.read_text())
        if saved["seeds"] == list(seeds) and saved["every"] == every:
            results["rows"] = saved["rows"]
    model, pipe, judge = open_model("emoji"), load("emoji"), load_judge()
    sampling = Sampling.for_model(find("emoji"))
    for erased in (FIRST_FIVE, OTHER_FIVE):
        kept = [name for name in catalogue().concepts if name not in erased][::every]
        for name, options, guide in [("original", None, ""), *rows()]:
            key = f"{name} | {erased[0]}"
            if key in results["rows"]:
                continue
            start = time.perf_counter()
            try:
                variant = None if options is None else erase(model, erased, [guide], options=options, checked=False)
            except EditkitError as error:
                results["rows"][key] = {"error": str(error)}
                continue
            seconds = time.perf_counter() - start
            found = measure_erasure(pipe, judge, variant, erased, kept, seeds, sampling, what=key)
            results["rows"][key] = {
                **{which: [one.hits, one.count] for which, one in vars(found).items()},
                "seconds": round(seconds, 3),
                "damage_worst": None if variant is None else variant.record["figures"]["damage_worst"],
            }
            if out is not None:
                out.write_text(json.dumps(results, indent=1) + "\n")
    return results


def as_table(results: dict[str, Any]) -> Table:
    table = Table("edit", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "seconds", "worst damage")
    for key, row in results["rows"].items():
        if "error" in row:
            table.add_row(key, row["error"][:60])
            continue
        shares = [f"{100 * hits / count:.1f}" for hits, count in (row[one] for one in ("esr1", "esr5", "psr1", "psr5"))]
        worst = row["damage_worst"]
        table.add_row(key, *shares, f"{row['seconds']:.2f}", "" if worst is None else f"{worst:.3f}")
    return table


if __name__ == "__main__":
    main()
