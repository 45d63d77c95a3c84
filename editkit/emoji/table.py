"""What is whose merit: every method with every protection on the bundled model. `python -m editkit.emoji.table`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from editkit.concepts.vocabulary import same_word
from editkit.edit.edit import Edit
from editkit.edit.options import Options, defaults
from editkit.editing import erase
from editkit.emoji.catalogue import catalogue
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.model.pipeline import load
from editkit.model.source import find
from editkit.numbers.detectors.registry import load_detector
from editkit.numbers.erasure import measure_erasure
from editkit.numbers.rates import Rate
from editkit.pictures.prompts import parse_seeds
from editkit.pictures.sampler import Sampling

FIRST_FIVE = ("church", "parachute", "fuel pump", "dog", "trumpet")
OTHER_FIVE = ("mosque", "fish", "delivery truck", "axe", "pizza")


@dataclass(frozen=True)
class Row:
    """One edit to measure. `half` is None, or says which concepts are judged when every second one is left out of the
    protected vocabulary: those `inside` it or those `outside`."""

    name: str
    options: Options | None
    guide: str = "average"
    half: str | None = None


def table_rows() -> Iterator[Row]:
    yield Row("original", None)
    for protect, guide in (("none", " "), ("prior", "average"), ("minimax", "average")):
        yield Row(f"TIME, {protect}", defaults("time", protect, tokens="all"), guide)
        for tokens in ("last", "tail", "all"):
            yield Row(f"UCE {tokens}, {protect}", defaults("uce", protect, tokens=tokens), guide)
        yield Row(f"RECE, {protect}", defaults("rece", protect), guide)
    yield Row("RECE composed, minimax", defaults("rece", "minimax", joint=False))
    yield Row("RECE 3 epochs, minimax", defaults("rece", "minimax", epochs=3))
    yield Row("RECE, minimax, nearest", defaults("rece", "minimax"), "nearest")
    yield Row("RECE, minimax, empty guide", defaults("rece", "minimax"), " ")
    for half in ("inside", "outside"):
        yield Row(f"RECE, minimax, half the words: {half}", defaults("rece", "minimax"), half=half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("table.json"))
    parser.add_argument("--seeds", default="0-7")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th kept concept, to save time")
    parser.add_argument("--only", nargs="+", help="names of rows")
    given = parser.parse_args()
    results = measure_table(parse_seeds(given.seeds), given.every, given.out, given.only)
    Console().print(as_table(results))


def measure_table(
    seeds: Sequence[int], every: int = 1, out: Path | None = None, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Rows that `out` holds already are not measured again."""
    results: dict[str, Any] = {"seeds": list(seeds), "every": every, "erased": [FIRST_FIVE, OTHER_FIVE], "rows": {}}
    if out is not None and out.exists():
        saved = json.loads(out.read_text())
        if saved["seeds"] == list(seeds) and saved["every"] == every:
            results["rows"] = saved["rows"]
    model, pipe, judge = open_model("emoji"), load("emoji"), load_detector("emoji-judge")
    sampling = Sampling.for_model(find("emoji"))
    for row in table_rows():
        for erased in (FIRST_FIVE, OTHER_FIVE):
            key = f"{row.name} | {erased[0]}"
            if key in results["rows"] or (only is not None and row.name not in only):
                continue
            kept, words = _kept(erased, row.half, every)
            start = time.perf_counter()
            try:
                variant = _variant(model, row, erased, words)
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


def _variant(model: EditableModel, row: Row, erased: Sequence[str], words: Sequence[str] | None) -> Edit | None:
    if row.options is None:
        return None
    return erase(model, erased, [row.guide], options=row.options, vocabulary=words, checked=False)


def _kept(erased: Sequence[str], half: str | None, every: int) -> tuple[list[str], list[str] | None]:
    """The concepts to judge, and the vocabulary to protect (None is all words)."""
    others = [name for name in catalogue().concepts if name not in erased]
    if half is None:
        return others[::every], None
    inside, outside = others[0::2], others[1::2]
    words = [word for word in catalogue().words() if not any(same_word(word, one) for one in outside)]
    return (inside if half == "inside" else outside)[::every], words


COLUMNS = ("edit", "ESR-1", "ESR-5", "PSR-1", "95 % interval", "PSR-5", "seconds")


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row an edit, the pictures of all sets together: success rates in per cent, mean seconds to make the edit."""
    sets = [erased[0] for erased in results["erased"]]
    for name in dict.fromkeys(key.split(" | ")[0] for key in results["rows"]):
        parts = [row for one in sets if (row := results["rows"].get(f"{name} | {one}")) is not None]
        if any("error" in part for part in parts):
            yield name, "refused: " + next(part["error"] for part in parts if "error" in part)[:60], *[""] * 5
            continue
        esr1, esr5, psr1, psr5 = (
            Rate(sum(part[rate][0] for part in parts), sum(part[rate][1] for part in parts))
            for rate in ("esr1", "esr5", "psr1", "psr5")
        )
        low, high = psr1.interval
        values = (f"{100 * one.value:.1f}" for one in (esr1, esr5, psr1))
        seconds = sum(part["seconds"] for part in parts) / len(parts)
        yield name, *values, f"{100 * low:.1f} to {100 * high:.1f}", f"{100 * psr5.value:.1f}", f"{seconds:.1f}"


def as_table(results: dict[str, Any]) -> Table:
    table = Table(*COLUMNS)
    for row in as_rows(results):
        table.add_row(*row)
    return table


def as_markdown(results: dict[str, Any]) -> str:
    """The table of the README."""
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *as_rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
