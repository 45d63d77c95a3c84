"""Which words are worth protecting, and how many: `python -m editkit.emoji.protect_table --work DIR`.

Objects of `emoji-objects` are erased five at a time by UCE, their rows sent to the empty prompt's. What is protected
differs: nothing, words drawn by a seed, the words nearest to what is erased, those that the unprotected edit damages
most, or all. Objects that are in no list are asked for, too. `editkit.emoji.damage_table` asks whether the damage in
closed form is that of the pictures. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.emoji.catalogue import catalogue
from editkit.emoji.rows import OBJECTS
from editkit.emoji.sheets import markdown, whole_percent
from editkit.emoji.shown import STEPS, Shown
from editkit.erasure.erase import erase
from editkit.erasure.near import closeness
from editkit.erasure.rows import vocabulary_rows
from editkit.erasure.words import words_to_protect
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.evaluation.suites.suite import load_suite
from editkit.files.atomic import write_text_atomic
from editkit.model.editable import EditableModel, open_model

OUT = Path("tests/bench/protect.json")
SPLITS = ("1", "2")
SIZE, SIZES = 20, (10, 20, 50, 100)
HELD_OUT, ASKED = 24, 8
ERASED_SEEDS, KEPT_SEEDS = (0, 1), (0,)
THIRDS = ("near", "middle", "far")
COLUMNS = ("what is protected", "ESR-1", "PSR-1 of the protected", "PSR-1 of the others", "worst damage of the others")
ROWS = ("none", *(f"prior, {n} drawn" for n in SIZES), f"prior, {SIZE} nearest", f"prior, {SIZE} most damaged",
        "prior, all", "minimax, all", "null, all")  # fmt: skip


@dataclass(frozen=True)
class Split:
    """What is erased, and which words may be protected."""

    model: EditableModel
    name: str

    @cached_property
    def erased(self) -> list[str]:
        return list(load_suite(OBJECTS).splits[self.name])

    @cached_property
    def held_out(self) -> list[str]:
        """Objects that no list has: those of no suite, drawn by a seed."""
        suite = load_suite(OBJECTS).classes
        others = [word for word in catalogue().objects if word not in suite]
        return sorted(random.Random(0).sample(others, HELD_OUT))

    @cached_property
    def words(self) -> list[str]:
        """All words that may be protected: none that is erased or held out, or means the same."""
        same = [*self.model.profile.taught_as_same(self.held_out), *self.held_out]
        return words_to_protect(self.model, self.erased, same)

    def damage(self, edit: Edit, words: Sequence[str]) -> torch.Tensor:
        """In closed form, `(words,)`."""
        (stream,) = self.model.streams
        edit_map = self.model.map_of(edit, stream)
        assert edit_map is not None
        rows = vocabulary_rows(stream.encoders, words, self.model.profile.vocabulary_templates)
        return rows.damage(edit_map, stream.gram)

    @cached_property
    def unprotected(self) -> Edit:
        return self.edit("none", ())

    def edit(self, protect: str, words: Sequence[str]) -> Edit:
        options = Options("uce", protect=protect)
        given = list(words) if words else None
        return erase(self.model, self.erased, [" "], (), options, given, checked=False, synonyms="leave")

    def chosen(self, row: str) -> list[str]:
        """The words of a row of the table."""
        if row == "none":
            return []
        count, _, how = row.split(", ")[1].partition(" ")
        if count == "all":
            return self.words
        order: dict[str, Callable[[], list[str]]] = {
            "drawn": lambda: random.Random(int(self.name)).sample(self.words, len(self.words)),
            "nearest": lambda: self._by(self._near()),
            "most damaged": lambda: self._by(self.damage(self.unprotected, self.words)),
        }
        return order[how]()[: int(count)]

    def _near(self) -> torch.Tensor:
        return closeness(self.model.encoder, self.words, self.erased, self.model.gram).max(dim=1).values

    def _by(self, values: torch.Tensor) -> list[str]:
        return [self.words[n] for n in values.argsort(descending=True).tolist()]

    def distances(self, words: Sequence[str]) -> list[float]:
        """Of each held-out object to the nearest of `words`: 1 less the cosine of their rows, mean removed."""
        everything = [*self.words, *self.held_out, *self.erased]
        near = closeness(self.model.encoder, everything, self.held_out, self.model.gram)
        picked = [everything.index(word) for word in words]
        return (1 - near[picked].max(dim=0).values).tolist()


def measure(split: Split, row: str, shown: Shown) -> dict[str, Any]:
    """Digits a picture: erased objects that are gone, protected and held-out ones that are there."""
    words = split.chosen(row)
    edit = split.edit(row.split(", ")[0], words)
    objects = {*catalogue().objects}
    asked = [word for word in words if word in objects]
    asked = asked if len(asked) <= ASKED else random.Random(1).sample(asked, ASKED)
    return {
        "words": len(words),
        "gone": _digits(not hit for hit in shown.hits(edit, split.erased, ERASED_SEEDS)),
        "protected": _digits(shown.hits(edit, asked, KEPT_SEEDS)),
        "held out": _digits(shown.hits(edit, split.held_out, KEPT_SEEDS)),
        "damage": [round(value, 4) for value in split.damage(edit, split.held_out).tolist()],
        "distances": [round(value, 4) for value in split.distances(words)] if words else [],
    }


def _digits(outcomes: Iterator[bool] | Sequence[bool]) -> str:
    return "".join(str(int(outcome)) for outcome in outcomes)


def rate(made: Sequence[dict[str, Any]], key: str) -> Estimate:
    """Over the splits together. An object is a cluster: its pictures, and for held-out ones the splits, go together."""
    seeds = len(ERASED_SEEDS if key == "gone" else KEPT_SEEDS)
    owners = [(0 if key == "held out" else n, m // seeds) for n, each in enumerate(made) for m in range(len(each[key]))]
    return rate_interval([digit == "1" for each in made for digit in each[key]], owners)


def as_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a way of protection; per cent with 95 % intervals."""
    for row, splits in results["rows"].items():
        made = list(splits.values())
        worst = max(value for each in made for value in each["damage"])
        rates = [whole_percent(rate(made, key)) for key in ("gone", "protected", "held out")]
        yield row, *rates, f"{worst:.3f}"


def as_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(COLUMNS, as_rows(results))


def by_distance(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row a third of all held-out objects under all drawn lists, by their distance to the nearest protected word."""
    pairs = [
        (distance, digit == "1", float(damage), word)
        for row, splits in results["rows"].items()
        if row.endswith("drawn")
        for made in splits.values()
        for distance, digit, damage, word in zip(
            made["distances"], made["held out"], made["damage"], results["held out"], strict=True
        )
    ]
    pairs.sort()
    for n, name in enumerate(THIRDS):
        some = pairs[n * len(pairs) // 3 : (n + 1) * len(pairs) // 3]
        if some:
            mean = sum(damage for _, _, damage, _ in some) / len(some)
            kept = rate_interval([hit for _, hit, _, _ in some], [word for *_, word in some])
            reach = f"{some[0][0]:.2f} to {some[-1][0]:.2f}"
            yield f"{name}, {reach}", whole_percent(kept), f"{mean:.3f}"


def distance_markdown(results: dict[str, Any]) -> str:
    """For the page."""
    return markdown(("distance to the nearest protected word", "PSR-1", "mean damage"), by_distance(results))


def read(path: Path) -> dict[str, Any]:
    """What was measured so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="+", metavar="ROW", default=list(ROWS))
    given = parser.parse_args()
    model = open_model("emoji")
    shown = Shown.of(model)
    for name in SPLITS:
        split = Split(model, name)
        for row in given.only:
            results = read(given.out)
            if name in results["rows"].get(row, {}):
                continue
            results |= {
                "steps": STEPS,
                "held out": split.held_out,
                "seeds": {"erased": ERASED_SEEDS, "others": KEPT_SEEDS},
            }
            results["rows"].setdefault(row, {})[name] = measure(split, row, shown)
            results["rows"] = {row: results["rows"][row] for row in ROWS if row in results["rows"]}
            write_text_atomic(given.out, json.dumps(results, separators=(",", ":")) + "\n", force=True)
            print(name, row, flush=True)
    print(as_markdown(read(given.out)))


if __name__ == "__main__":
    main()
