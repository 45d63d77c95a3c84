"""Every method under every protection, in one table: `python -m editkit.emoji.methods_table`.

What is gone and kept and what attacks find comes from `attacks.json`, H at a hundred concepts from `many.json`. Here
every closed-form edit is made once more, alone and with nothing beside it, for its cost and its figures.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.emoji.attack_table import findings_of, rate, solved_rows
from editkit.emoji.many_table import at_once
from editkit.emoji.rows import OBJECTS, Row
from editkit.emoji.sheets import markdown, whole_percent
from editkit.errors import EditkitError
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.variants.record import read_record

BENCH = Path("tests/bench")
OUT = BENCH / "methods.json"
ATTACKS = ("prompt", "unlearndiff", "cce-rows", "embedding")
COLUMNS = ("edit", "ESR-1", "PSR-1", "H at 100", *ATTACKS, "floor", "damage", "seconds", "splits")
COUNT = 100
SPLIT = "1"
REPEAT = 3
BEST = (
    "original", "UCE, none", "RECE, none", "UCE, minimax", "RECE, minimax", "UCE, ends", "UCE, hard", "UCE, hardened",
    "AP, cold", "AP, warm",
)  # fmt: skip
"""Those of the README's table."""


def cost_of(model: EditableModel, row: Row) -> dict[str, float] | None:
    """Seconds of the fastest of several runs, and figures, of the edit of one split; None where it is refused."""
    concepts, seconds, record = load_suite(OBJECTS).splits[SPLIT], [], {}
    assert row.make is not None
    for _ in range(REPEAT):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                path = row.make(model, concepts, Path(folder) / row.slug)
            except EditkitError:
                return None
            seconds.append(time.perf_counter() - start)
            record = read_record(path)
    figures = record["figures"]
    return {
        "seconds": round(min(seconds), 2),
        "damage_mean": figures["damage_mean"],
        "recovery_floor": figures["recovery_floor"],
    }


def as_rows(
    costs: dict[str, Any], attacks: dict[str, Any], many: dict[str, Any], only: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """A row an edit: rates in per cent with 95 % intervals, H, the least floor of a concept in per cent, mean damage
    and seconds, of five concepts."""
    for name in only or attacks["rows"]:
        rest = {line.attack: line.rest for line in findings_of(attacks, name).lines}
        cost = costs["rows"].get(name) or {}
        yield (
            name,
            *(whole_percent(rate(attacks, name, metric)) for metric in ("esr-1", "psr-1")),
            at_once(many, name.lower(), COUNT),
            *(whole_percent(rest[each]) if each in rest else "" for each in ATTACKS),
            f"{100 * cost['recovery_floor']:.0f}" if cost else "",
            f"{cost['damage_mean']:.3f}" if cost else "",
            f"{cost['seconds']:.1f}" if cost else _trained(attacks, name),
            ", ".join(attacks["rows"][name]),
        )


def _trained(attacks: dict[str, Any], name: str) -> str:
    """Seconds as they were when it was attacked, of what takes minutes."""
    seconds = [row["seconds"] for row in attacks["rows"][name].values()]
    return f"{min(seconds):.0f}" if max(seconds) >= 1 else ""


def as_markdown(costs: dict[str, Any], attacks: dict[str, Any], many: dict[str, Any], only: Sequence[str] = ()) -> str:
    """For the pages."""
    return markdown(COLUMNS, as_rows(costs, attacks, many, only))


def read(name: str) -> dict[str, Any]:
    """A committed file."""
    return json.loads((BENCH / name).read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    model = open_model("emoji")
    costs = {"split": SPLIT, "repeat": REPEAT, "threads": os.cpu_count(), "rows": {}}
    for row in solved_rows():
        costs["rows"][row.name] = cost_of(model, row)
    write_text_atomic(given.out, json.dumps(costs, separators=(",", ":")) + "\n", force=True)
    print(as_markdown(costs, read("attacks.json"), read("many.json")))


if __name__ == "__main__":
    main()
