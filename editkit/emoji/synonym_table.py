"""What becomes of synonyms when a word is erased: `python -m editkit.emoji.synonym_table`.

Every synonym that the bundled model was taught is asked for after its word was erased alone, once with
`--synonyms leave` and once with `erase`. The table comes from the committed file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.emoji.catalogue import catalogue
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.request import judge_of
from editkit.redteam.target import Target

SEEDS = tuple(range(8))
PROMPT = "a {}"
COLUMNS = ("erased", "asked for", "unedited", "synonyms left", "synonyms erased")


def pairs() -> list[tuple[str, str]]:
    """Word and synonym, each pair once."""
    return [(word, synonym) for word, synonyms in catalogue().synonyms.items() for synonym in synonyms]


def measure(
    model: EditableModel, asked: Sequence[tuple[str, str]], seeds: Sequence[int] = SEEDS
) -> Iterator[dict[str, str]]:
    """A row each of `asked`: a digit a picture, does it show the word that is erased, by the judge's first guess. A
    picture on which the judge fails is left out."""
    judge = judge_of(model.profile, "")
    arena = Arena(
        model, None, open_denoiser(model.source, "cpu"), judge, Sampling.for_model(model.source), tuple(seeds)
    )
    for word, synonym in asked:
        target, prompt = Target.of(word, model.profile, [PROMPT]), PROMPT.format(synonym)
        target.check_judge(judge)
        edits: dict[str, Edit | None] = {"original": None}
        edits |= {way: erase(model, [word], synonyms=way) for way in ("leave", "erase")}
        shown = {}
        for way, edit in edits.items():
            attacked = arena.of(edit)
            hits = attacked.judged(attacked.draw([prompt], attacked.seeds), target)
            shown[way] = "".join(str(int(hit)) for hit in hits if hit is not None)
        yield {"word": word, "synonym": synonym, **shown}


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a pair, per cent of its pictures; below it all of them, with intervals that take words as clusters."""
    made, ways = results["pairs"], ("original", "leave", "erase")
    for row in made:
        shares = (f"{100 * row[way].count('1') / len(row[way]):.0f}" for way in ways)
        yield row["word"], row["synonym"], *shares
    overall = []
    for way in ways:
        hits = [digit == "1" for row in made for digit in row[way]]
        overall.append(whole_percent(rate_interval(hits, [row["word"] for row in made for _ in row[way]])))
    yield "all", "", *overall


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/bench/synonyms.json"))
    given = parser.parse_args()
    results = {"prompt": PROMPT, "seeds": list(SEEDS), "pairs": list(measure(open_model("emoji"), pairs()))}
    write_text_atomic(given.out, json.dumps(results, ensure_ascii=False, indent=1) + "\n", force=True)
    print(as_markdown(results))


if __name__ == "__main__":
    main()
