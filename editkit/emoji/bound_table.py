"""Erase what is said of one thing alone, and measure it both ways: `python -m editkit.emoji.bound_table`.

A digit a picture is kept, prompt by prompt and seed by seed, so that every share and paired difference of the page
comes from the committed file alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.emoji.judge import EmojiJudge
from editkit.emoji.sheets import markdown, percent
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.intervals import Estimate, rate_difference, rate_interval
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model
from editkit.plugins import GROUPS

OUT = Path("tests/bench/bound.json")
FIRST_SEED = 800
OF, ELSEWHERE, OTHERS = "X of Y", "X elsewhere", "Y with others"
SEEDS = {OF: 12, ELSEWHERE: 2, OTHERS: 6}
SENTENCES = ("a {}", "a picture of a {}")


@dataclass(frozen=True)
class Case:
    """One edit.

    Attributes:
        concept, of, phrase: as `erase` takes them.
        attribute: what the judge calls that which X is a value of.
        things: that X is said of elsewhere.
        others: said of Y in the place of X.
        preserve: as `erase` takes it.
    """

    concept: str
    of: str
    phrase: str
    attribute: str
    things: tuple[str, ...]
    others: tuple[str, ...]
    preserve: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.concept} of {self.of}"

    def prompts(self) -> Iterator[tuple[str, str, str, str]]:
        """Group, prompt, and the attribute's value and the thing that it asks for."""
        yield from ((OF, self._said(self.concept, self.of, each), self.concept, self.of) for each in SENTENCES)
        yield from ((ELSEWHERE, self._said(self.concept, each), self.concept, each) for each in self.things)
        yield from ((OTHERS, self._said(each, self.of), each, self.of) for each in self.others)

    def _said(self, x: str, y: str, template: str = SENTENCES[0]) -> str:
        return fill(template, self.phrase.replace("{x}", x).replace("{y}", y))


THINGS = (
    "dog", "castle", "guitar", "pizza", "robot", "rocket", "elephant", "umbrella", "mosque", "house", "crown", "bus",
    "butterfly", "pineapple", "hammer", "cactus",
)  # fmt: skip
ROLES = (
    "pilot", "judge", "teacher", "farmer", "guard", "astronaut", "scientist", "mechanic", "singer", "artist",
    "detective", "firefighter",
)  # fmt: skip
CASES = (
    Case("noto", "church", "{y} in the style of {x}", "style", THINGS, ("twemoji", "fluent")),
    Case(
        "blue",
        "church",
        "{y} on a {x} background",
        "background",
        THINGS,
        ("pink", "green", "white", "purple"),
        ("a church on a green background", "a church on a white background", "a church on a gray background"),
    ),
    Case("woman", "cook", "{x} {y}", "gender", ROLES, ("man",), ("a man cook", "a man")),
)


def measure(model: EditableModel, case: Case, method: str) -> dict[str, Any]:
    """Group → prompt → `base` and `edit` → digits of the attribute and of the thing."""
    edit = erase(
        model, [case.concept], preserve=case.preserve, options=Options(method), of=[case.of], phrase=case.phrase
    )
    sampling, judge = Sampling.for_model(model.source), EmojiJudge()
    denoiser = open_denoiser(model.source, "cpu", sampling.placement)
    groups: dict[str, dict[str, Any]] = {}
    for group, prompt, value, thing in case.prompts():
        wanted = jobs([prompt], range(FIRST_SEED, FIRST_SEED + SEEDS[group]), 2)
        pairs = list(draw(denoiser, wanted, [None, edit], sampling))
        said = judge.detect([picture for _, picture in pairs])
        told = {side: {"attribute": "", "thing": ""} for side in ("base", "edit")}
        for (job, _), seen in zip(pairs, said, strict=True):
            mine = told["edit" if job.variant else "base"]
            mine["attribute"] += str(int(seen.attributes[case.attribute] == value))
            mine["thing"] += str(int(seen.sees(thing)))
        groups.setdefault(group, {})[prompt] = told
    figures = {key: edit.record["figures"][key] for key in ("erasure_residual", "damage_mean", "damage_worst")}
    return {"name": case.name, "method": method, "phrase": case.phrase, "figures": figures, "groups": groups}


def as_markdown(results: Mapping[str, Any]) -> str:
    """A row an edit: X of Y before and after, and the change of what must stay, in points."""
    rows = []
    for case in results["cases"]:
        before, after = (percent(_rate(case, OF, "attribute", side)) for side in ("base", "edit"))
        kept = [
            _points(_change(case, group, what))
            for group, what in ((OF, "thing"), (ELSEWHERE, "attribute"), (ELSEWHERE, "thing"), (OTHERS, "attribute"),
                                (OTHERS, "thing"))
        ]  # fmt: skip
        rows.append((case["name"], case["method"], before, after, *kept))
    head = (
        "erased", "method", "X of Y, unedited", "edited", "Y there", "X elsewhere", "the thing there", "others of Y",
        "Y there",
    )  # fmt: skip
    return markdown(head, rows)


def _rate(case: Mapping[str, Any], group: str, what: str, side: str) -> Estimate:
    hits, marks = _hits(case, group, what, side)
    return rate_interval(hits, marks)


def _change(case: Mapping[str, Any], group: str, what: str) -> Estimate:
    (before, marks), (after, _) = (_hits(case, group, what, side) for side in ("base", "edit"))
    return rate_difference(before, after, marks)


def _hits(case: Mapping[str, Any], group: str, what: str, side: str) -> tuple[list[bool], list[Any]]:
    """Outcomes, and the cluster of each: a prompt where there are many, else a seed."""
    told: Mapping[str, Any] = case["groups"][group]
    hits = [digit == "1" for each in told.values() for digit in each[side][what]]
    marks = [prompt if group == ELSEWHERE else n for prompt, each in told.items() for n in range(len(each[side][what]))]
    return hits, marks


def _points(change: Estimate) -> str:
    return f"{100 * change.value:+.0f} ({100 * change.low:+.0f} to {100 * change.high:+.0f})"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cases": []}


def done(results: Mapping[str, Any], case: Case, method: str) -> bool:
    return any((each["name"], each["method"]) == (case.name, method) for each in results["cases"])


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", help="one X, such as noto")
    parser.add_argument("--method", nargs="+", default=[GROUPS["methods"].default, "uce"])
    asked = parser.parse_args(given)
    results, model = read(asked.out), open_model("emoji")
    for method in asked.method:
        for case in CASES:
            if not done(results, case, method) and asked.only in (None, case.concept):
                results["cases"].append(measure(model, case, method))
                write_text_atomic(asked.out, json.dumps(results, indent=1) + "\n", force=True)


if __name__ == "__main__":
    main()
