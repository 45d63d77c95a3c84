"""Did an edit take, carry, leak? TIME's three figures on the bundled model: `python -m editkit.emoji.time_table`.

Every row of the suite `emoji-time` is edited as TIME publishes it (λ 0.1, nothing protected; some of these edits blow
up, and are measured all the same), and by default. What was seen of every picture is counted, so that the table comes
from the committed file alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editkit.edits.method import Options
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.edit import edit
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.evaluation.time_metrics import KINDS
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.variants.edit_file import save_edit
from editkit.variants.named import BASE

OUT = Path("tests/bench/time.json")
SUITE = "emoji-time"
WAYS = {"published": Options("time", protect="none"), "default": Options("time")}
"""How each edit is made."""
COLUMNS = ("edit", "efficacy", "generality", "specificity")


def measure(model: EditableModel, out: Path = OUT) -> dict[str, Any]:
    """Row of the suite → variant → figure → how many of its pictures succeed, and how many there are. Rows that `out`
    has are not drawn again."""
    suite = load_suite(SUITE)
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"suite": suite.sha256, "edits": {}}
    with open(str(suite.file), encoding="utf-8", newline="") as file:
        edits = [(row["old"], row["new"]) for row in csv.DictReader(file)]
    for old, new in edits:
        name = f"{old} → {new}"
        if name not in results["edits"]:
            with tempfile.TemporaryDirectory() as work:
                results["edits"][name] = _measured(model, old, new, Path(work))
            write_text_atomic(out, json.dumps(results, indent=1, ensure_ascii=False) + "\n", force=True)
    return results


def _measured(model: EditableModel, old: str, new: str, work: Path) -> dict[str, dict[str, tuple[int, int]]]:
    from pyarrow import parquet

    files = {way: work / f"{way}.safetensors" for way in WAYS}
    for way, options in WAYS.items():
        save_edit(edit(model, old, new, options=options, checked=False), files[way])
    evaluate([BASE, *files.values()], SUITE, work / "out", "emoji")
    rows = parquet.read_table(work / "out" / PARQUET).to_pylist()
    return {variant: {kind: _count(rows, variant, kind) for kind in KINDS} for variant in (BASE, *WAYS)}


def _count(rows: list[dict[str, Any]], variant: str, kind: str) -> tuple[int, int]:
    mine = [row[f"{kind}-seen"] for row in rows if row["variant"] == variant and row[f"{kind}-seen"] is not None]
    return round(sum(mine)), len(mine)


def pooled(results: dict[str, Any], variant: str, kind: str) -> Estimate:
    """Over all edits, each of them a cluster."""
    pairs = [
        (n < hits, name)
        for name, row in results["edits"].items()
        for hits, count in [row[variant][kind]]
        for n in range(count)
    ]
    return rate_interval([hit for hit, _ in pairs], [name for _, name in pairs])


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """All edits together, then one by one; shares in per cent with 95 % intervals."""
    told = {BASE: "unedited", "published": "TIME as published", "default": "TIME, words protected"}
    for variant, name in told.items():
        yield (name, *(whole_percent(pooled(results, variant, kind)) for kind in KINDS))


def as_edit_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Edit by edit, by default: hits of pictures."""
    for name, row in results["edits"].items():
        yield (name, *(f"{hits} of {count}" for hits, count in (row["default"][kind] for kind in KINDS)))


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def edits_as_markdown(results: dict[str, Any]) -> str:
    """For the page, edit by edit."""
    return markdown(COLUMNS, as_edit_rows(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    print(as_markdown(results := measure(open_model("emoji"), parser.parse_args().out)))
    print(edits_as_markdown(results))


if __name__ == "__main__":
    main()
