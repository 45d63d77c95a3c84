"""What a gate changes, on the splits of `emoji-objects`: `python -m editkit.emoji.gate_table --work DIR`.

RECE with its usual protection erases the five classes of a split. The edit and the same edit behind its gate draw the
suite's prompts; fresh captions, of another seed than the threshold's, are shown to the gate alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.gate import Gate
from editkit.edits.method import Options
from editkit.emoji.neutral import neutral_captions
from editkit.emoji.rows import OBJECTS
from editkit.emoji.sheets import markdown, percent, whole_percent
from editkit.erasure.erase import erase
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import PARQUET
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.gating.gated import COUNT, ForgetfulEncoder, gated
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.request import judge_of
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_edit, save_edit
from editkit.variants.named import BASE

SEEDS = "0-9"
FRESH = 6000
"""Captions that the false-open rate is from, less those that name something erased or were seen."""
BESIDE = (
    "a dog and a {}",
    "a {} and a dog",
    "a red {}",
    "a picture of a {} in the style of fluent on a white background",
)
"""Sentences that neither the edit nor the gate was made with."""
METRICS = ("esr-1", "psr-1")
MISSED_SEEDS = (0, 1, 2, 3)


def measure(model: EditableModel, split: str, work: Path, seeds: str = SEEDS) -> dict[str, Any]:
    """One split: digits of every picture of both, and what opens the gate."""
    concepts = load_suite(OBJECTS).splits[split]
    files = {"edit": work / f"edit-{split}.safetensors", "gated": work / f"gated-{split}.safetensors"}
    if not files["edit"].is_file():
        save_edit(erase(model, concepts, options=Options("rece")), files["edit"])
    if not files["gated"].is_file():
        save_edit(gated(model, files["edit"]), files["gated"])
    edit, behind = load_edit(files["edit"]), load_edit(files["gated"])
    assert isinstance(edit, Edit) and isinstance(behind, Edit) and behind.gate is not None
    gate = behind.gate
    words = behind.record["gate"]["words"]
    fresh = _fresh(model, words)
    return {
        "gate": {key: behind.record["gate"][key] for key in ("tau", "eps", "n", "untouched", "milliseconds")},
        "fresh": {"count": len(fresh), "opened": sum(_opened(model, gate, fresh))},
        "beside": {each: _opened(model, gate, [fill(each, word) for word in words]) for each in BESIDE},
        "synonyms": dict(_synonyms(model, edit, concepts)),
        **_drawn(files, split, work, seeds),
    }


def _fresh(model: EditableModel, words: Sequence[str]) -> list[str]:
    seen = set(neutral_captions(COUNT, 0))
    targets = [Target.of(word, model.profile, ()) for word in words]
    captions = (text for text in neutral_captions(FRESH, 1) if text not in seen)
    encoder = ForgetfulEncoder(model.encoder)
    return [text for text in captions if encoder.reads(text) and not any(each.naming(text) for each in targets)]


def _opened(model: EditableModel, gate: Gate, prompts: Sequence[str]) -> list[bool]:
    return [bool(gate.opens(rows[None])) for rows in ForgetfulEncoder(model.encoder).encode(prompts)]


def _synonyms(model: EditableModel, edit: Edit, concepts: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Synonyms that the gate was not told of: does "a X" open it?"""
    profile = replace(model.profile, synonyms={}, hypernyms={})
    untold = {key: value for key, value in edit.record.items() if key != "synonyms"}
    told = EditableModel(replace(model.source, brings=profile))
    gate = gated(told, Edit(edit.maps, untold)).gate
    assert gate is not None
    words = [word for concept in concepts for word in model.profile.synonyms.get(concept, ())]
    yield from zip(words, _opened(model, gate, [fill("a {}", word) for word in words]), strict=True)


def _drawn(files: dict[str, Path], split: str, work: Path, seeds: str) -> dict[str, Any]:
    """Metric → variant → a digit a picture; and of the kept classes' pictures, which are the unedited model's to the
    bit."""
    from pyarrow import parquet

    out = work / f"evaluation-{split}"
    names = [BASE, *map(str, files.values())]
    made = evaluate(names, OBJECTS, out, "emoji", split, seeds=seeds, metrics=METRICS, force=True)
    assert made is not None
    rows = sorted(parquet.read_table(out / PARQUET).to_pylist(), key=lambda row: (row["class"], row["seed"]))
    stems = {name: path.stem for name, path in files.items()}
    digits = {
        metric: {
            name: "".join(str(int(row[metric])) for row in rows if row["variant"] == stem and row[metric] is not None)
            for name, stem in stems.items()
        }
        for metric in METRICS
    }
    kept = [Path(row["picture"]).name for row in rows if row["variant"] == stems["gated"] and row["psr-1"] is not None]
    same = {
        name: "".join(str(int(_picture(out, stem, file) == _picture(out, BASE, file))) for file in kept)
        for name, stem in stems.items()
    }
    return {**digits, "identical": same}


def missed(model: EditableModel, split: str, work: Path) -> dict[str, dict[str, str]]:
    """Prompts of `BESIDE` that do not open the gate of `measure` → a digit a picture, does it show what was asked for:
    of the unedited model, which draws them now, and of the edit."""
    judge, behind = judge_of(model.profile, ""), load_edit(work / f"gated-{split}.safetensors")
    assert isinstance(behind, Edit) and behind.gate is not None
    arena = Arena(
        model, None, open_denoiser(model.source, "cpu"), judge, Sampling.for_model(model.source), MISSED_SEEDS
    )
    shown: dict[str, dict[str, str]] = {}
    for word in behind.record["gate"]["words"]:
        target, asked = Target.of(word, model.profile, ()), [fill(each, word) for each in BESIDE]
        for prompt, is_open in zip(asked, _opened(model, behind.gate, asked), strict=True):
            if not is_open:
                shown[prompt] = {name: _digits(arena.of(each), prompt, target) for name, each in (
                    ("original", None), ("edit", behind.ungated),
                )}  # fmt: skip
    return shown


def _digits(arena: Arena, prompt: str, target: Target) -> str:
    return "".join(str(int(bool(hit))) for hit in arena.judged(arena.draw([prompt], arena.seeds), target))


def missed_as_markdown(results: dict[str, Any]) -> str:
    """For the page: what was asked for beside the sentences that the gate was made with."""
    splits = [*results["splits"].values()]
    opened = [each for split in splits for some in split["beside"].values() for each in some]
    pictures = [shown for split in splits for shown in split["missed"].values()]
    shares = [
        whole_percent(rate_interval([digit == "1" for shown in pictures for digit in shown[way]]))
        for way in ("original", "edit")
    ]
    heads = ("prompts", "open the gate", "closed: drawn all the same", "the same prompts with the edit")
    return markdown(heads, [(str(len(opened)), whole_percent(rate_interval(opened)), *shares)])


def _picture(out: Path, variant: str, file: str) -> bytes:
    return (out / "pictures" / variant / file).read_bytes()


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a split, and one of all."""
    splits = results["splits"]
    for name, some in [*(((key, [value])) for key, value in splits.items()), ("all", [*splits.values()])]:
        pictures = (whole_percent(_rate(some, metric, way)) for metric in METRICS for way in ("edit", "gated"))
        same = (whole_percent(_rate(some, "identical", way)) for way in ("edit", "gated"))
        count, opened = (sum(each["fresh"][key] for each in some) for key in ("count", "opened"))
        fresh = rate_interval([True] * opened + [False] * (count - opened))
        yield name, *pictures, *same, percent(fresh)


def _rate(splits: Sequence[dict[str, Any]], metric: str, way: str) -> Estimate:
    return rate_interval([digit == "1" for split in splits for digit in split[metric][way]])


COLUMNS = (
    "split", "ESR-1", "ESR-1 gated", "PSR-1", "PSR-1 gated", "kept pictures identical", "identical gated", "false open",
)  # fmt: skip


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/bench/gate.json"))
    parser.add_argument("--work", type=Path, required=True, help="folder for edits and pictures, kept")
    parser.add_argument("--splits", nargs="+", default=["1", "2", "3", "4"])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    results = {"suite": OBJECTS, "seeds": SEEDS, "method": "rece", "splits": {}}
    if given.out.is_file():
        results = json.loads(given.out.read_text(encoding="utf-8"))
    for split in given.splits:
        if split not in results["splits"]:
            results["splits"][split] = measure(open_model("emoji"), split, given.work)
        if "missed" not in results["splits"][split]:
            results["splits"][split]["missed"] = missed(open_model("emoji"), split, given.work)
            write_text_atomic(given.out, json.dumps(results, ensure_ascii=False, indent=1) + "\n", force=True)
    print(as_markdown(results), missed_as_markdown(results), sep="\n\n")


if __name__ == "__main__":
    main()
