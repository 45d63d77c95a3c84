"""Part of the way of an edit, and how much of the concept is still seen: `python -m editkit.emoji.moderate_table`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.compose import scale
from editkit.emoji.judge import EmojiJudge
from editkit.emoji.sheets import markdown, percent
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.intervals import Estimate, part_interval, rate_interval
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model

OUT = Path("tests/bench/moderate.json")
CONCEPTS = ("dog", "church")
PARTS = (0.125, 0.25, 0.375, 0.5, 0.75)
SEEDS = range(900, 924)


def measure(model: EditableModel, concept: str) -> dict[str, Any]:
    """Part of the way → a digit a seed, whether the judge sees the concept; 0 is the unedited model."""
    whole, sampling, judge = erase(model, [concept]), Sampling.for_model(model.source), EmojiJudge()
    parts = (0.0, *PARTS, 1.0)
    variants = [None, *(scale(whole, part) for part in PARTS), whole]
    denoiser = open_denoiser(model.source, "cpu", sampling.placement)
    digits = dict.fromkeys(parts, "")
    pairs = list(draw(denoiser, jobs([fill("a {}", concept)], SEEDS, len(parts)), variants, sampling))
    said = judge.detect([picture for _, picture in pairs])
    for (job, _), seen in zip(pairs, said, strict=True):
        digits[parts[job.variant]] += str(int(seen.sees(model.profile.meanings[concept])))
    return {f"{part:g}": some for part, some in digits.items()}


def as_markdown(results: Mapping[str, Any]) -> str:
    """A row a part: of each concept the share of pictures that show it, and how far of the way that is."""
    rows = []
    for part in ("0", *(f"{part:g}" for part in PARTS), "1"):
        cells = []
        for digits in results.values():
            first, mine, last = ([float(digit) for digit in digits[side]] for side in ("0", part, "1"))
            share = percent(rate_interval([bool(hit) for hit in mine]))
            cells += [share, "" if part in ("0", "1") else _part(part_interval(first, mine, last))]
        rows.append((part, *cells))
    names = [cell for concept in results for cell in (f"pictures with a {concept}", "of the way")]
    return markdown(("part of the edit", *names), rows)


def _part(part: Estimate) -> str:
    return f"{100 * part.value:.0f} % ({100 * part.low:.0f} to {100 * part.high:.0f})"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(given)
    model = open_model("emoji")
    results = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {}
    for concept in CONCEPTS:
        if concept not in results:
            results[concept] = measure(model, concept)
            write_text_atomic(asked.out, json.dumps(results, indent=1) + "\n", force=True)


if __name__ == "__main__":
    main()
