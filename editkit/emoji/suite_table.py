"""Collateral beyond objects, styles, and words for groups: `python -m editkit.emoji.suite_table --work DIR`.

Edits are measured with the suites `emoji-binding`, `emoji-styles` and `emoji-implicit`. A digit a picture is kept, in
the order of the suite's prompts and then of the seeds, so that every share and paired difference of the page comes from
the committed file alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from editkit.drawing.prompt_file import parse_seeds
from editkit.edits.method import Options
from editkit.emoji.catalogue import TEMPLATES
from editkit.emoji.rows import IMPLICIT, groups, words_without
from editkit.emoji.sheets import markdown, percent
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.statistics.intervals import rate_difference, rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.variants.edit_file import save_edit
from editkit.variants.named import BASE

BINDING, STYLES = "emoji-binding", "emoji-styles"
METRICS = {
    BINDING: ("psr-1", "subject-1"),
    STYLES: ("esr-1", "psr-1", "subject-1"),
    IMPLICIT: ("esr-1", "esr-5", "psr-1", "psr-5"),
}
ALIKE = {"vocabulary_templates": TEMPLATES, "vocabulary_turns": ()}
"""Every word is protected on a blue background and in noto's style, and no word otherwise."""
OUT = Path("tests/bench/suites.json")


@dataclass(frozen=True)
class Case:
    """One edit, and the suite that measures it; the unedited model is measured beside it.

    Attributes:
        erased: what it erases.
        split: of the suite; None where it has none.
        profile: what the model's profile says otherwise.
        unprotected: words that are not protected.
        given: of `erase`, beside the options.
    """

    suite: str
    name: str
    erased: tuple[str, ...]
    seeds: str
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    unprotected: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    def make(self, model: EditableModel, place: Path) -> Path:
        """The edit's file."""
        known = open_model("emoji", profile=replace(model.profile, **self.profile)) if self.profile else model
        words = words_without(self.unprotected) if self.unprotected else None
        made = erase(known, self.erased, options=Options(**self.options), vocabulary=words, **self.given)
        save_edit(made, place, force=True)
        return place


def cases() -> Iterator[Case]:
    """The edits of the tables."""
    objects = load_suite("emoji-objects").splits["1"]
    yield Case(BINDING, "the same sentences for all words", objects, "0-1", profile=ALIKE)
    yield Case(BINDING, "sentences by turns", objects, "0-1")
    styles = load_suite(STYLES).classes
    for style in styles:
        yield Case(STYLES, f"{style}, as a style", (style,), "0-1", style)
    for style in styles:
        yield Case(STYLES, f"{style}, as a thing", (style,), "0", style, profile={"styles": ()})
    weapons = load_suite(IMPLICIT).erases["weapon"]
    kept_out = tuple(groups(weapons))
    for name, options, given in GROUP_ROWS:
        yield Case(IMPLICIT, name, weapons, "0-7", "weapon", options, unprotected=kept_out, given=given)


GROUP_ROWS: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
    ("RECE, minimax", {}, {}),
    ("UCE, null", {"method": "uce", "protect": "null"}, {}),
    ("RECE, minimax, in-class", {}, {"guides": ["in-class"]}),
    ("UCE, ends", {"method": "uce", "protect": "prior", "tokens": "ends"}, {"guides": ["in-class"]}),
)
"""Name, options and arguments of what is tried against the loss of words for groups."""


def measure(model: EditableModel, case: Case, work: Path) -> dict[str, dict[str, Any]]:
    """Variant → metric → class → digits, of the unedited model and of the edit. What `work` has is not drawn again."""
    place = work / case.suite
    place.mkdir(parents=True, exist_ok=True)
    slug = case.name.replace(", ", "-").replace(" ", "-").lower()
    edit = case.make(model, place / f"{slug}.safetensors")
    metrics = METRICS[case.suite]
    out, compared = place / "evaluation", [BASE, edit]
    made = evaluate(compared, case.suite, out, "emoji", case.split, seeds=case.seeds, metrics=metrics, force=True)
    if made is None:
        raise EditkitError("the table is measured by one process; start it without a launcher")
    before, after = made.variants
    told = {"base": _digits(made.folder, before, metrics), "edit": _digits(made.folder, after, metrics)}
    return told | {"seen": _seen(made.folder, before)} if case.suite == STYLES else told


def _seen(folder: Path, variant: str) -> dict[str, dict[str, int]]:
    """Style that was asked for → style that the judge sees → pictures."""
    counts: dict[str, dict[str, int]] = {}
    for row in _rows_of(folder, variant):
        seen = counts.setdefault(row["class"], {})
        seen[row["style"]] = seen.get(row["style"], 0) + 1
    return counts


def _digits(folder: Path, variant: str, metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    digits: dict[str, dict[str, str]] = {metric: {} for metric in metrics}
    for row in _rows_of(folder, variant):
        for metric in metrics:
            if row[metric] is not None:
                digits[metric][row["class"]] = digits[metric].get(row["class"], "") + str(int(row[metric]))
    return digits


def _rows_of(folder: Path, variant: str) -> list[dict[str, Any]]:
    """The pictures of a variant, in the order of the prompts and then of the seeds."""
    from pyarrow import parquet

    rows = [row for row in parquet.read_table(folder / PARQUET).to_pylist() if row["variant"] == variant]
    return sorted(rows, key=lambda row: (row["case_number"], row["seed"]))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"suites": {}, "cases": []}


def binding_as_markdown(results: Mapping[str, Any]) -> str:
    """What a prompt says beside a thing, attribute by attribute, and the thing."""
    chosen = [case for case in results["cases"] if case["suite"] == BINDING]
    rows = []
    for part in load_suite(BINDING).parts:
        for metric, what in (("psr-1", part.attribute), ("subject-1", f"the thing, {part.attribute} named")):
            told = [_pairs(case, metric, part.classes, case["seeds"]) for case in chosen]
            before, _, clusters = told[0]
            changes = [_change(*each) for each in told]
            rows.append((f"{what}", f"{len(before)}", percent(rate_interval(before, clusters)), *changes))
    return markdown(("what is asked for", "pictures", "unedited", *(case["name"] for case in chosen)), rows)


def styles_as_markdown(results: Mapping[str, Any]) -> str:
    """A row an edit: its style, the others, and the things drawn; changes against the unedited model."""
    return markdown(("erased", "ESR-1", "PSR-1", "change", "thing", "change"), _rows(results, STYLES, STYLE_CELLS))


def groups_as_markdown(results: Mapping[str, Any]) -> str:
    """A row a way: weapons asked for by "weapon", and the other words for groups."""
    return markdown(("edit", "ESR-1", "ESR-5", "PSR-1", "PSR-5"), _rows(results, IMPLICIT, ()))


def seen_as_markdown(results: Mapping[str, Any]) -> str:
    """Which style the judge sees in the unedited model's pictures of each, per cent."""
    seen = next(case["seen"] for case in results["cases"] if case["suite"] == STYLES)
    rows = [
        (style, *(f"{100 * counts.get(other, 0) / sum(counts.values()):.0f}" for other in seen))
        for style, counts in seen.items()
    ]
    return markdown(("asked for", *seen), rows)


STYLE_CELLS = ("psr-1", "subject-1")
"""Metrics whose paired change is told."""


def _rows(results: Mapping[str, Any], suite: str, changes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    splits = [*load_suite(suite).splits]
    chosen = [case for case in results["cases"] if case["suite"] == suite]
    chosen.sort(key=lambda case: splits.index(case["split"]))
    for number, case in enumerate(chosen):
        if number == 0 or case["split"] != chosen[number - 1]["split"]:
            name = "unedited" if suite == IMPLICIT else f"{case['split']}, unedited"
            yield name, *_cells(case, "base", suite, ())
        yield case["name"], *_cells(case, "edit", suite, changes)


def _cells(case: Mapping[str, Any], variant: str, suite: str, changes: Sequence[str]) -> Iterator[str]:
    """Every metric's share, and behind some the change of it."""
    for metric in METRICS[suite]:
        before, after, clusters = _pairs(case, metric, None, case["seeds"])
        yield percent(rate_interval(before if variant == "base" else after, clusters))
        if suite == STYLES and metric in STYLE_CELLS:
            yield _change(before, after, clusters) if metric in changes else ""


Pairs = tuple[list[bool], list[bool], list[tuple[str, int]]]


def _pairs(case: Mapping[str, Any], metric: str, classes: Sequence[str] | None, seeds: int) -> Pairs:
    """Outcomes of the unedited model, of the edit, and the prompt of each picture."""
    base, edit = case["base"][metric], case["edit"][metric]
    names = [name for name in base if classes is None or name in classes]
    marks = [(name, n // seeds) for name in names for n in range(len(base[name]))]
    before, after = ([digit == "1" for name in names for digit in side[name]] for side in (base, edit))
    return before, after, marks


def _change(before: Sequence[bool], after: Sequence[bool], clusters: Sequence[tuple[str, int]]) -> str:
    """Paired, in points."""
    change = rate_difference(before, after, clusters)
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, required=True, help="folder for edits and pictures, kept")
    parser.add_argument("--only", nargs="+", metavar="SUITE")
    given = parser.parse_args()
    results, model = read(given.out), open_model("emoji")
    for case in cases():
        done = any(each["suite"] == case.suite and each["name"] == case.name for each in results["cases"])
        if done or (given.only and case.suite not in given.only):
            continue
        results["suites"][case.suite] = load_suite(case.suite).sha256
        told = {"suite": case.suite, "name": case.name, "split": case.split, "seeds": len(parse_seeds(case.seeds))}
        results["cases"].append({**told, **measure(model, case, given.work)})
        write_text_atomic(given.out, json.dumps(results, indent=1) + "\n", force=True)


if __name__ == "__main__":
    main()
