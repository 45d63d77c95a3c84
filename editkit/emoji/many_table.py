"""Erase many concepts of the bundled model at once: `python -m editkit.emoji.many_table`.

So many objects are drawn by a seed, erased together by every method under every protection, and asked for; of more than
`ASKED` erased or kept objects so many are asked for, drawn by the same seed. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

from editkit.edits.method import Method, Options
from editkit.emoji.catalogue import catalogue
from editkit.emoji.sheets import markdown
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.variants.edit_file import save_edit

OUT = Path("tests/bench/many.json")
COUNTS = (1, 2, 5, 10, 25, 50, 100, 150)
METHODS, PROTECTIONS = ("uce", "rece", "speed", "dp"), ("none", "prior", "minimax", "null")
ASKED = 50
TEMPLATE = "an image of a {}"
SUITE = """name = "many"
about = "Drawn by a seed."
detector = "emoji-judge"
metrics = ["esr-1", "psr-1"]
seeds = "0"
classes = {}
templates = {}
splits.1 = {}
"""
FIGURES = ("erasure_residual", "damage_mean", "damage_worst", "rank")


@dataclass(frozen=True)
class Draw:
    """`count` objects, drawn by `seed`."""

    count: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.count}/{self.seed}"

    def objects(self) -> tuple[list[str], list[str], list[str]]:
        """Those that are erased, those of them that are asked for, and those of the others."""
        mixed = list(catalogue().objects)
        random.Random(self.seed).shuffle(mixed)
        erased, kept = mixed[: self.count], mixed[self.count :]
        return erased, erased[:ASKED], kept[:ASKED]


def edits() -> dict[str, tuple[Method, list[str]]]:
    """The rows: by name the options, and the guide where it is not the default."""
    near = ["in-class"]
    made: dict[str, tuple[Method, list[str]]] = {
        f"{method}, {protect}": (Options(method, protect=protect), []) for method in METHODS for protect in PROTECTIONS
    }
    made["uce, minimax, in-class"] = Options("uce"), near
    for method in ("uce", "rece"):
        made[f"{method}, ends"] = Options(method, protect="prior", tokens="ends"), near
    made["uce, ends, strength 1"] = Options("uce", protect="prior", tokens="ends", strength=1.0), near
    made["uce, ends, average"] = Options("uce", protect="prior", tokens="ends"), []
    return made


def measure(model: EditableModel, draw: Draw, rows: Sequence[str], work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of every row: seconds, figures, and what is gone and kept, a digit a picture."""
    erased, gone, kept = draw.objects()
    place = work / draw.name.replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    made: dict[str, dict[str, Any]] = {}
    for row in rows:
        options, guides = edits()[row]
        start = time.perf_counter()
        try:
            edit = erase(model, erased, guides, options=options, synonyms="leave", checked=False)
        except EditkitError as error:
            yield row, {"refused": str(error)}
            continue
        seconds = {**edit.record["figures"]["seconds"], "all": round(time.perf_counter() - start, 2)}
        save_edit(edit, place / f"{_file(row)}.safetensors", force=True)
        figures = edit.record["figures"]
        levers = [each["leverage"] for each in figures["each_concept"] if each["leverage"] is not None]
        made[row] = {
            "seconds": seconds,
            **{name: figures[name] for name in FIGURES},
            "leverage_least": min(levers, default=None),
            "leverage_median": statistics.median(levers) if levers else None,
        }
    if made:
        yield from _asked(made, gone, kept, place)


def _file(row: str) -> str:
    return row.replace(", ", "-")


def _asked(
    made: dict[str, dict[str, Any]], gone: Sequence[str], kept: Sequence[str], place: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    suite = place / "suite.toml"
    names = (json.dumps(some) for some in ([*gone, *kept], [TEMPLATE], list(gone)))
    suite.write_text(SUITE.format(*names), encoding="utf-8")
    files = {str(place / f"{_file(row)}.safetensors"): row for row in made}
    done = evaluate([*files], str(suite), place / "pictures", "emoji", "1", force=True)
    assert done is not None
    drawn = parquet.read_table(done.folder / PARQUET).to_pylist()
    for file, row in files.items():
        mine = sorted((each for each in drawn if each["variant"] == Path(file).stem), key=lambda each: each["class"])
        for name in ("esr-1", "psr-1"):
            made[row][name] = "".join(str(int(each[name])) for each in mine if each[name] is not None)
        yield row, made[row]


def rates(digits: dict[str, Any]) -> tuple[Estimate, Estimate]:
    """ESR-1 and PSR-1."""
    esr, psr = (rate_interval([digit == "1" for digit in digits[name]]) for name in ("esr-1", "psr-1"))
    return esr, psr


def harmonic(esr: float, psr: float) -> float:
    """`2 / (1/ESR + 1/PSR)`: high only where both are."""
    return 2 * esr * psr / (esr + psr) if esr + psr else 0.0


def as_markdown(results: dict[str, Any]) -> str:
    """A row an edit, a column a count: H, and in brackets ESR-1 and PSR-1, per cent."""
    counts = sorted({int(name.split("/")[0]) for row in results["rows"].values() for name in row})
    lines = [(row, *(at_once(results, row, count) for count in counts)) for row in results["rows"]]
    return markdown(("edit", *map(str, counts)), lines)


def at_once(results: dict[str, Any], row: str, count: int) -> str:
    """A cell: so many concepts, of all draws together. Empty where that was not measured."""
    made = results["rows"].get(row, {})
    draws = [made[name] for name in made if name.split("/")[0] == str(count)]
    if not draws:
        return ""
    if any("refused" in each for each in draws):
        return "refused"
    joined = {name: "".join(each[name] for each in draws) for name in ("esr-1", "psr-1")}
    esr, psr = (100 * each.value for each in rates(joined))
    return f"{harmonic(esr, psr):.0f} ({esr:.0f}, {psr:.0f})"


def read(path: Path) -> dict[str, Any]:
    """What was measured so far."""
    if not path.is_file():
        return {"asked": ASKED, "template": TEMPLATE, "threads": os.cpu_count(), "rows": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    names = list(edits())
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, required=True, help="folder for edits and pictures, kept")
    parser.add_argument("--only", nargs="+", metavar="ROW", default=names, help="rows of these names")
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    model = open_model("emoji")
    for draw in (Draw(count, seed) for seed in given.seeds for count in given.counts):
        known = read(given.out)["rows"]
        missing = [row for row in given.only if draw.name not in known.get(row, {})]
        done = dict(measure(model, draw, missing, given.work))
        results = read(given.out)
        for row, made in done.items():
            results["rows"].setdefault(row, {})[draw.name] = made
        results["rows"] = {row: results["rows"][row] for row in names if row in results["rows"]}
        write_text_atomic(given.out, json.dumps(results, separators=(",", ":")) + "\n", force=True)
        print(as_markdown(results))


if __name__ == "__main__":
    main()
