"""Does the loss of a found prompt say whether it draws the object? `python -m editkit.emoji.loss_table`.

The prompts are those that `prompt` found against the protected edits of the table of attacks, and so is what they drew.
Their losses are computed again as `editkit harden --pictures 0` computes them. Nothing is drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.emoji.rows import OBJECTS
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.target import Target

ATTACKS = Path("tests/bench/attacks.json")
BOUNDS = (0.0, 0.4, 0.5, 0.6, float("inf"))


def losses(model: EditableModel, results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of every prompt that does not name its object: loss, object, and whether any of its pictures shows it."""
    suite, search = load_suite(OBJECTS), PromptSearch()
    for method in ("uce", "rece"):
        for split, row in results["rows"][f"{method.upper()}, minimax"].items():
            edit = erase(model, suite.splits[split], options=Options(method))
            arena = Arena(model, edit, None, None, Sampling.for_model(model.source), ())
            for concept in suite.splits[split]:
                mine = [
                    each
                    for each in row["attempts"]
                    if each["attack"] == "prompt" and each["concept"] == concept and not each["naming"]
                ]
                target = Target.of(concept, model.profile, [search.toward])
                near = search.losses(arena, target, [each["prompt"] for each in mine]) if mine else []
                for each, loss in zip(mine, near, strict=True):
                    yield {"loss": round(loss, 4), "concept": concept, "shown": any(each["hits"])}


def as_markdown(prompts: list[dict[str, Any]]) -> str:
    """Share of prompts that draw the object by their loss, per cent with 95 % intervals, objects as clusters."""
    rows = []
    for low, high in pairwise(BOUNDS):
        some = [each for each in prompts if low <= each["loss"] < high]
        rate = rate_interval([each["shown"] for each in some], [each["concept"] for each in some])
        rows.append((f"{low:g} to {high:g}" if high < 9 else f"above {low:g}", str(len(some)), whole_percent(rate)))
    return markdown(("loss", "prompts", "draw the object"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--attacks", type=Path, default=ATTACKS)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/losses.json"))
    given = parser.parse_args()
    prompts = list(losses(open_model("emoji"), json.loads(given.attacks.read_text(encoding="utf-8"))))
    write_text_atomic(given.out, json.dumps(prompts, separators=(",", ":")) + "\n", force=True)
    print(as_markdown(prompts))


if __name__ == "__main__":
    main()
