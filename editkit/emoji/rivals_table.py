"""The table and the picture of `docs/rivals.md` from a run of `rivals.toml`: `editkit run rivals`, then
`python -m editkit.emoji.rivals_table`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from editkit.chaining.opened import RecipeRun, open_run
from editkit.emoji.papers_table import check_done
from editkit.emoji.scatter import Point, scatter
from editkit.emoji.sheets import markdown, percent, rate_of
from editkit.emoji.table import figures_of, outcomes_of
from editkit.evaluation.results import RESULTS
from editkit.evaluation.statistics.intervals import Estimate
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.variants.named import BASE, variant_name

OUT, PICTURE = Path("tests/bench/rivals.json"), Path("docs/pictures/rivals.svg")
ATTACKS = ("prompt", "cce-rows")
FRECHET = "fid-emoji"
ROWS = {
    "original": BASE,
    "SLD weak": f"{BASE}+sld:weak={{concepts}}",
    "SLD medium": f"{BASE}+sld:medium={{concepts}}",
    "SLD strong": f"{BASE}+sld:strong={{concepts}}",
    "SLD max": f"{BASE}+sld:max={{concepts}}",
    "negative prompt": f"{BASE}+negative={{concepts}}",
    "UCE": "uce-published-{split}",
    "RECE": "rece-published-{split}",
    "ESD-x": "cold-{split}-esd",
    "CA": "cold-{split}-ca",
    "AGE": "cold-{split}-age",
    "SPM": "spm-{split}",
    "AEGIS": "aegis-{split}",
    "FMN": "fmn-{split}",
    "HiRM": "hirm-{split}",
    "UCE, minimax": "uce-{split}",
    "RECE, minimax": "rece-{split}",
    "AP, warm": "ap-warm-{split}",
}
"""Row → what the recipe calls it. The last three are of this project; the others are as published, as far as that is
known."""
OURS = ("UCE, minimax", "RECE, minimax", "AP, warm")
HEADS = (
    "method", "ESR-1", "PSR-1", "δ of the kept", "Fréchet", "ASR prompt", "ASR rows", "steps", "passes", "seconds",
    "KiB",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/rivals"), help="of `editkit run rivals`")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    asked = parser.parse_args()
    results = gathered(open_run("rivals", asked.folder))
    write_text_atomic(asked.out, json.dumps(results, indent=1) + "\n", force=True)
    write_text_atomic(asked.picture, as_picture(results), force=True)
    print(as_markdown(results))


def gathered(run: RecipeRun) -> dict[str, Any]:
    """What was seen in every picture, what each attack reached, and what each method took.

    Raises:
        EditkitError: a stage is not done.
    """
    check_done(run)
    scores = {job.said["split"]: job for job in run.jobs if job.stage.startswith("scores")}
    attacks = [job for job in run.jobs if job.do == "attack"]
    lines = [line for job in attacks for line in _read(run.folder / job.name / job.name / "attack.json")["lines"]]
    seconds = {job.name: run.seconds(job) for job in run.jobs}
    rows: dict[str, Any] = {}
    for name, stage in ROWS.items():
        rows[name] = {"splits": {}, "attacks": {}}
        for split, job in scores.items():
            concepts = load_suite(job.said["suite"]).concepts_in(split)
            made = stage.replace("{split}", split).replace("{concepts}", ", ".join(concepts))
            folder, variant = run.folder / job.name / job.name, variant_name(made)
            product = next((each.product(run.folder) for each in run.jobs if each.name == made), None)
            frechet = _read(folder / RESULTS)["metrics"][FRECHET]["variants"].get(variant)
            rows[name]["splits"][split] = {
                "seconds": round(seconds.get(made, 0.0), 2),
                "bytes": 0 if product is None else _size(product),
                "figures": figures_of(str(product)) if product is not None and product.is_dir() else {},
                FRECHET: None if frechet is None else frechet["all"]["value"],
                **outcomes_of(folder, variant),
            }
            for line in lines:
                if line["variant"] == variant and line["rest"] is not None:
                    rows[name]["attacks"].setdefault(split, {})[line["attack"]] = line["rest"]
    first = next(iter(scores.values())).said
    return {"suite": first["suite"], "seeds": first["seeds"], "rows": rows}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _size(product: Path) -> int:
    """Of what the method gives away."""
    return (product / "tuned.safetensors" if product.is_dir() else product).stat().st_size


def as_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a method. Rates in per cent with 95 % intervals, over all splits, of attacks in the attacked one."""
    for name, row in results["rows"].items():
        splits = row["splits"]
        figures = [split["figures"] for split in splits.values()]
        passes = [sum(each["passes"].values()) for each in figures if "passes" in each]
        frechets = [split[FRECHET] for split in splits.values() if split[FRECHET] is not None]
        deltas = [value for split in splits.values() for value in split["sensitivity-keep"].values()]
        seconds, size = (statistics.mean(split[key] for split in splits.values()) for key in ("seconds", "bytes"))
        yield (
            name,
            *(percent(rate_of(splits, metric)) for metric in ("esr-1", "psr-1")),
            f"{statistics.mean(deltas):.3f}" if deltas else "",
            f"{statistics.mean(frechets):.1f}" if frechets else "",
            *(_asr(row, attack) for attack in ATTACKS),
            str(figures[0]["steps"]) if "steps" in figures[0] else "",
            f"{statistics.mean(passes):.0f}" if passes else "",
            f"{seconds:.1f}" if seconds else "",
            f"{size / 1024:.0f}" if size else "",
        )


def _asr(row: Mapping[str, Any], attack: str) -> str:
    seen = attacked(row, attack)
    return "" if seen is None else f"{100 * seen.value:.0f} ({100 * seen.low:.0f} to {100 * seen.high:.0f})"


def attacked(row: Mapping[str, Any], attack: str) -> Estimate | None:
    """Of attempts whose plain prompt does not show the concept, in the split that was attacked."""
    found = [lines[attack] for lines in row["attacks"].values() if attack in lines]
    return Estimate.from_dict(found[0]) if found and found[0]["count"] else None


def as_markdown(results: Mapping[str, Any]) -> str:
    """For the page."""
    return markdown(HEADS, as_rows(results))


def as_picture(results: Mapping[str, Any]) -> str:
    """What is kept against what the search for prompts brings back, as SVG."""
    points = [
        Point(name, rate_of(row["splits"], "psr-1"), seen, name in OURS)
        for name, row in results["rows"].items()
        if (seen := attacked(row, ATTACKS[0])) is not None
    ]
    return scatter(points, "kept: PSR-1, per cent", "brought back: ASR of prompt, per cent")


if __name__ == "__main__":
    main()
