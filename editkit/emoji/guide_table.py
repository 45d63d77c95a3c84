"""What does an erased prompt draw? `python -m editkit.emoji.guide_table`.

Every object of `emoji-objects` is erased once, five at a time, and sent to each kind of guide. Of the pictures that its
name then draws: does the judge name a known object, and how far are they from pictures of the unedited model?
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.emoji.catalogue import catalogue
from editkit.emoji.judge import EmojiJudge
from editkit.emoji.rows import OBJECTS
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.erase import erase
from editkit.evaluation.networks.fid import frechet_distance, moments
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena

OUT = Path("tests/bench/guides.json")
GUIDES = (" ", "average", "nearest", "in-class")
SPLITS = ("1", "2")
SEEDS = tuple(range(8))
PROMPT = "an image of a {}"
NONE = "none"
"""What the judge calls a picture of nothing it knows."""
COLUMNS = ("guide", "a known object", "the erased one", "Fréchet distance", "most often")


def measure(model: EditableModel, splits: Sequence[str] = SPLITS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Guide → what the judge says of every picture, and the distance of all from those of every object, unedited."""
    suite, judge = load_suite(OBJECTS), EmojiJudge()
    arena = Arena(
        model, None, open_denoiser(model.source, "cpu"), judge, Sampling.for_model(model.source), tuple(seeds)
    )
    everything = _drawn(arena, catalogue().objects, seeds[:1])
    known = moments(everything, judge)
    rows: dict[str, Any] = {}
    for guide in (None, *GUIDES):
        pictures: list[Image.Image] = []
        labels: dict[str, list[str]] = {}
        for split in splits:
            erased, options = suite.splits[split], Options("uce")
            attacked = arena if guide is None else arena.of(erase(model, erased, [guide], options=options))
            for concept in erased:
                drawn = _drawn(attacked, [concept], seeds)
                labels[concept] = [found.labels[0] for found in judge.detect(drawn)]
                pictures += drawn
        distance = frechet_distance(moments(pictures, judge), known)
        rows["unedited" if guide is None else guide] = {"distance": round(distance, 2), "labels": labels}
    return {"method": "uce", "prompt": PROMPT, "seeds": list(seeds), "objects": len(everything), "guides": rows}


def _drawn(arena: Arena, concepts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    return arena.draw([PROMPT.format(concept) for concept in concepts], seeds)


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a guide; shares with 95 % intervals, objects as clusters."""
    for guide, row in results["guides"].items():
        pairs = [(concept, label) for concept, labels in row["labels"].items() for label in labels]
        owners = [concept for concept, _ in pairs]
        named = rate_interval([label not in (NONE, concept) for concept, label in pairs], owners)
        own = rate_interval([label == concept for concept, label in pairs], owners)
        ((most, count),) = Counter(label for _, label in pairs).most_common(1)
        yield (
            "the empty prompt" if guide == " " else guide, whole_percent(named), whole_percent(own),
            f"{row['distance']:.0f}", f"{most}, {100 * count / len(pairs):.0f} %",
        )  # fmt: skip


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    results = measure(open_model("emoji"))
    write_text_atomic(given.out, json.dumps(results, ensure_ascii=False, separators=(",", ":")) + "\n", force=True)
    print(as_markdown(results))


if __name__ == "__main__":
    main()
