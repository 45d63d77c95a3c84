"""Attack edits of the bundled model, and measure what they keep: `python -m editkit.emoji.attack_table`.

Splits 1 and 2 of `emoji-objects` together hold each of its ten classes once as erased, and so do 3 and 4. Every edit
erases the five of a split, and every concept is attacked on its own. What became of every attempt is kept, so that
tables and intervals come from the committed file alone; a run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.emoji.refine_rows import trained
from editkit.emoji.rows import OBJECTS, Maker, Row
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.statistics.intervals import NOTHING, Estimate, rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.gating.gated import gated
from editkit.model.editable import EditableModel, open_model
from editkit.options import options_of
from editkit.plugins import load
from editkit.redteam.attack import attack
from editkit.redteam.attempt import Attempt
from editkit.redteam.cost import Cost
from editkit.redteam.findings import Findings
from editkit.redteam.harden import harden
from editkit.variants.edit_file import save_edit
from editkit.variants.named import BASE
from editkit.variants.record import read_record

SPLITS = ("1", "2", "3", "4")
SEEDS = "0-19"
ATTACKS = ("prompt", "unlearndiff", "p4d", "cce-rows", "embedding", "noise-probe", "seed-search")
CONTROL = ("prompt", "noise-probe", "seed-search")
"""Against the unedited model: the others keep the prompt, which draws the concept there anyway."""
BUDGET: dict[str, Any] = {"engine": "gcg", "seed": 7, "pictures": 4}
"""`prompt` certifies with another engine and another seed than those that harden."""
DESCENT: dict[str, Any] = {"iterations": 40}
"""Of the attacks that learn by gradients, half of their quick default."""
KEPT = ("attack", "changes", "protocol", "concept", "source", "prompt", "loss", "seeds", "hits", "plain", "naming")
FIGURES = ("rank", "damage_mean", "damage_worst", "recovery_floor", "steps", "passes")
METHODS = ("uce", "rece", "speed", "dp", "cure", "oce")
PROTECTIONS = ("none", "prior", "minimax", "null")


def solved_rows() -> Iterator[Row]:
    """Every method under every protection, and what `erase` can do besides."""
    for protect in PROTECTIONS:
        for method in METHODS:
            if method != "oce" or protect in ("none", "prior"):
                yield Row(f"{method.upper()}, {protect}", solved(method, protect))
    for method in ("uce", "rece"):
        yield Row(f"{method.upper()}, in-class", solved(method, "minimax", ["in-class"]))
    for method in ("uce", "rece"):
        yield Row(f"{method.upper()}, ends", solved(method, "prior", ["in-class"], tokens="ends"))
    yield Row("UCE, hard", solved("uce", "minimax", hard=True))
    yield Row("UCE, hard, low floor", solved("uce", "minimax", hard=True, floor_weight=0.3))
    yield Row("UCE, random rows", solved("uce", "minimax", perturb=1))


def attack_rows() -> Iterator[Row]:
    """The rows, in their order. Gradient stages are those of the other table; the warm ones start from rows above."""
    yield Row("original", None)
    yield from solved_rows()
    for method in ("uce", "rece"):
        yield Row(f"{method.upper()}, hardened", hardened(method))
    yield Row("UCE, hardened by loss", hardened("uce", pictures=0))
    yield Row("UCE, in-class, hardened", hardened("uce", ["in-class"]))
    yield Row("RECE, gated", behind_gate("rece"))
    yield Row("AP, cold", trained("ap", refresh=10))
    yield Row("AP, warm", trained("ap", Row("RECE, minimax", solved("rece", "minimax")), refresh=10))
    yield Row("AP from hardened", trained("ap", Row("RECE, hardened", hardened("rece")), refresh=10))
    yield Row("AGE", trained("age"))
    yield Row("ESD-u", trained("esd", param="noxattn"))


def solved(method: str, protect: str, guides: Sequence[str] = (), **options: Any) -> Maker:
    """As `erase` makes it; with protection, synonyms go along."""
    made = Options(method, protect=protect, **options)
    return _saved(lambda model, concepts: erase(model, concepts, guides, options=made))


def hardened(method: str, guides: Sequence[str] = (), **options: Any) -> Maker:
    """With the defaults of `harden`, but for what is given."""
    made = Options(method, protect="minimax")
    return _saved(lambda model, concepts: harden(erase(model, concepts, guides, options=made), model, **options))


def behind_gate(method: str) -> Maker:
    """As `editkit gate` makes it of the protected edit."""
    made = Options(method, protect="minimax")
    return _saved(lambda model, concepts: gated(model, erase(model, concepts, options=made)))


def _saved(made: Callable[[EditableModel, Sequence[str]], Edit]) -> Maker:
    """An edit that is there already is not made again."""

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> str:
        path = place.with_suffix(".safetensors")
        if not path.is_file():
            save_edit(made(model, concepts), path)
        return str(path)

    return make


def measure(
    model: EditableModel,
    row: Row,
    split: str,
    work: Path,
    attacks: Sequence[str] = ATTACKS,
    budget: dict[str, Any] = BUDGET | DESCENT,
) -> dict[str, Any]:
    """One row on one split: what it takes, what is plainly gone and kept, and every attempt."""
    concepts = load_suite(OBJECTS).splits[split]
    start = time.perf_counter()
    variant = BASE if row.make is None else row.make(model, concepts, work / row.slug)
    seconds = time.perf_counter() - start
    figures = {} if row.make is None else _figures(read_record(variant))
    told = {"seconds": round(figures.pop("run", seconds), 2), "figures": figures, **plain(variant, split, work)}
    chosen = [name for name in attacks if _is_for(name, variant)]
    if not chosen:
        return told | {"costs": {}, "attempts": []}
    known = {"seed", "pictures", *(option.name for name in chosen for option in options_of(load("attacks", name)))}
    given = {name: value for name, value in budget.items() if name in known}
    findings = attack(
        [variant], concepts, chosen, model, suite=OBJECTS,
        out=work / "attacks" / row.slug, control=False, force=True, **given,
    )  # fmt: skip
    return told | {
        "null_shift": next(iter(findings.null_shift.values())),
        "costs": _costs(findings),
        "attempts": [_kept(each) for each in findings.attempts],
    }


def _is_for(attack: str, variant: str) -> bool:
    """`embedding` inverts one map, which trained weights have not."""
    if variant == BASE:
        return attack in CONTROL
    return attack != "embedding" or not Path(variant).is_dir()


def _figures(record: dict[str, Any]) -> dict[str, Any]:
    figures = {key: record["figures"][key] for key in FIGURES if key in record["figures"]}
    figures |= {"found": sum(map(len, record.get("found", {}).values()))}
    if (run := record["figures"]["seconds"].get("run")) is not None:
        figures["run"] = run  # a run that was made before takes no time
    if "hardened" in record:
        figures |= {"rounds": record["hardened"]["rounds"], "stopped": record["hardened"]["stopped"]}
    return figures


def _kept(attempt: Attempt) -> dict[str, Any]:
    return {name: value for name, value in attempt.as_dict().items() if name in KEPT}


def plain(variant: str, split: str, work: Path) -> dict[str, str]:
    """Metric → a digit a picture: asked plainly, is the class gone, and is the other class still there?"""
    from pyarrow import parquet

    made = evaluate(
        [variant], OBJECTS, work / "plain" / Path(variant).stem, "emoji", split, seeds=SEEDS,
        metrics=("esr-1", "psr-1"), force=True,
    )  # fmt: skip
    assert made is not None
    rows = parquet.read_table(made.folder / PARQUET).to_pylist()
    return {
        name: "".join(str(int(row[name])) for row in sorted(rows, key=_order) if row[name] is not None)
        for name in ("esr-1", "psr-1")
    }


def _order(row: dict[str, Any]) -> tuple[str, int]:
    return row["class"], row["seed"]


def _costs(findings: Findings) -> dict[str, dict[str, float]]:
    return {line.attack: line.cost.as_dict() for line in findings.lines}


def findings_of(results: dict[str, Any], name: str) -> Findings:
    """All attempts of a row, of all its splits."""
    attempts: list[Attempt] = []
    costs: dict[tuple[str, str, str], Cost] = {}
    for split, row in results["rows"][name].items():
        for stored in row["attempts"]:
            given = {"variant": name, "edit_sha256": None, "ids": (), "plain_loss": None, **stored}
            attempts.append(Attempt.from_dict(given))
        for each, cost in row["costs"].items():
            costs[name, each, split] = Cost(**cost)
    return Findings(tuple(attempts), costs)


def rate(results: dict[str, Any], name: str, metric: str) -> Estimate:
    """ESR-1 or PSR-1 of a row, of all its splits."""
    digits = "".join(row[metric] for row in results["rows"][name].values())
    return rate_interval([digit == "1" for digit in digits])


def as_rows(results: dict[str, Any], attacks: Sequence[str] = ATTACKS) -> Iterator[tuple[str, ...]]:
    """A row an edit, per cent with 95 % intervals: what is plainly gone and kept, and ASR of the attempts whose
    unattacked prompt fails, any of their pictures. An edit with no such attempt has an empty cell, and one that was not
    attacked by the last of `attacks` has no row."""
    for name, splits in results["rows"].items():
        if not all(attacks[-1] in row["costs"] for row in splits.values()):
            continue
        rest = {line.attack: line.rest for line in findings_of(results, name).lines}
        plainly = (rate(results, name, metric) for metric in ("esr-1", "psr-1"))
        found = (whole_percent(rest.get(each, NOTHING)) for each in attacks)
        yield name, *map(whole_percent, plainly), *found, ", ".join(splits)


def columns(attacks: Sequence[str] = ATTACKS) -> tuple[str, ...]:
    """The heads of `as_rows`."""
    return ("edit", "ESR-1", "PSR-1", *attacks, "splits")


def as_markdown(results: dict[str, Any], attacks: Sequence[str] = ATTACKS) -> str:
    """For the pages."""
    return markdown(columns(attacks), as_rows(results, attacks))


ROUNDS = ("round", "fresh", "worst concept", "earlier prompts", "added", "mean damage", "worst damage")


def rounds_as_markdown(results: dict[str, Any], name: str, split: str) -> str:
    """The rounds of one hardening: shares of found prompts, per cent, and what the protected words take."""

    def row(each: dict[str, Any]) -> tuple[str, ...]:
        fresh = Estimate.from_dict(each["fresh"])
        earlier = "" if each["transfer"] is None else f"{100 * each['transfer']:.0f}"
        damage = (f"{each[key]:.3f}" for key in ("damage_mean", "damage_worst"))
        return (
            str(each["number"]),
            whole_percent(fresh),
            f"{100 * each['worst']:.0f}",
            earlier,
            str(each["added"]),
            *damage,
        )

    return markdown(ROUNDS, map(row, results["rows"][name][split]["figures"]["rounds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/bench/attacks.json"))
    parser.add_argument("--work", type=Path, required=True, help="folder for edits and pictures, kept")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows of these names")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    parser.add_argument("--iterations", type=int, default=DESCENT["iterations"], help="of attacks by gradients")
    given = parser.parse_args()
    budget = BUDGET | {"iterations": given.iterations}
    if read(given.out, budget)["budget"] != budget:
        parser.error(f"{given.out} was measured with another budget; give another --out")
    model, rows = open_model("emoji"), {row.name: row for row in attack_rows()}
    for split in given.splits:
        for name, row in rows.items():
            if given.only and name not in given.only:
                continue
            if split in read(given.out, budget)["rows"].get(name, {}):
                continue
            (given.work / split).mkdir(parents=True, exist_ok=True)
            try:
                done = measure(model, row, split, given.work / split, given.attacks, budget)
            except EditkitError as error:  # an edit that would break the model has no row
                print(f"{name}, split {split}: {error}")
                continue
            results = read(given.out, budget)  # another process may have added to it meanwhile
            splits = results["rows"].setdefault(name, {}) | {split: done}
            results["rows"][name] = dict(sorted(splits.items()))
            results["rows"] = {each: results["rows"][each] for each in rows if each in results["rows"]}
            text = json.dumps(results, ensure_ascii=False, separators=(",", ":")) + "\n"
            write_text_atomic(given.out, text, force=True)
    print(as_markdown(read(given.out, budget), given.attacks))


def read(path: Path, budget: dict[str, Any]) -> dict[str, Any]:
    """What was measured so far with that budget."""
    if not path.is_file():
        return {"suite": OBJECTS, "seeds": SEEDS, "budget": budget, "threads": os.cpu_count(), "rows": {}}
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
