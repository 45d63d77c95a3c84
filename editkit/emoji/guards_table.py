"""What guards do on the bundled model: `python -m editkit.emoji.guards_table`. Five objects of a split are led away
from at once, five others must stay."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from editkit.edits.guards import STRENGTHS
from editkit.emoji.sheets import RATES, markdown, whole_percent
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.statistics.intervals import Estimate
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.variants.named import BASE, behind_guard

OUT, SUITE, SPLIT = Path("tests/bench/guards.json"), "emoji-objects", "1"
HEADS = ("guard", "ESR-1", "ESR-5", "PSR-1", "PSR-5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("guards-bench"), help="Where pictures are kept.")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", default="0-9")
    asked = parser.parse_args()
    concepts = load_suite(SUITE).concepts_in(SPLIT)
    guards = {f"SLD {setting}": f"sld:{setting}" for setting in STRENGTHS} | {"negative prompt": "negative"}
    names = {"none": BASE} | {
        name: behind_guard([], f"{guard}={', '.join(concepts)}")[0] for name, guard in guards.items()
    }
    made = evaluate(list(names.values()), SUITE, asked.work, split=SPLIT, seeds=asked.seeds, metrics=RATES, force=True)
    assert made is not None
    rows = {
        name: {metric: made.value(metric, variant).as_dict() for metric in RATES}
        for name, variant in zip(names, made.variants, strict=True)
    }
    content: dict[str, Any] = {"split": SPLIT, "seeds": asked.seeds, "concepts": concepts, "rows": rows}
    write_text_atomic(asked.out, json.dumps(content, indent=1) + "\n", force=True)
    print(as_markdown(content))


def as_markdown(content: dict[str, Any]) -> str:
    """A row a guard, per cent with 95 % intervals."""
    rows = [
        (name, *(whole_percent(Estimate.from_dict(figures[metric])) for metric in RATES))
        for name, figures in content["rows"].items()
    ]
    return markdown(HEADS, rows)


if __name__ == "__main__":
    main()
