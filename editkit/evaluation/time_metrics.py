"""TIME's three figures (Orgad, Kawar and Belinkov 2023, section 5): did the edit take, does it carry, did it leak?

An edit `old → new` is judged on pictures of three kinds of prompt. Each picture is asked which of two texts it is
closer to:

- efficacy, prompt `old`: closer to `new`;
- generality, prompts `positive1..5`, which mention the thing that was edited: closer to their destinations `gt1..5`;
- specificity, prompts `negative1..5`, which do not: closer to themselves than to `gn1..5`, what a leak makes of them.

Higher is better for all three.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.evaluation.statistics.rates import Rate, rate
from editkit.files.text.table import Layout, Schema, open_table

KINDS = ("efficacy", "generality", "specificity")
COLUMNS = ("old", "new", *(f"{name}{i}" for name in ("positive", "gt", "negative", "gn") for i in range(1, 6)))
EDITS = Schema(thing="edit", columns={name: (name,) for name in COLUMNS}, main="old", required=COLUMNS, short_rows=True)

Similarity = Callable[[Sequence[Image.Image], Sequence[Sequence[str]]], np.ndarray]
"""Pictures, and for each its texts → how alike they are, `(n, texts a picture)`. `Clip.cosines` is the paper's;
`detector_similarity` makes another."""


@dataclass(frozen=True)
class Trial:
    """A prompt to draw, and what its picture must be closer to than to the other."""

    kind: str
    prompt: str
    wanted: str
    other: str


@dataclass(frozen=True)
class TimeFigures:
    """Shares of pictures that are closer to what is wanted."""

    efficacy: Rate
    generality: Rate
    specificity: Rate
    higher_is_better: ClassVar[bool] = True


def read_time_trials(path: Path, layout: Layout | None = None) -> list[Trial]:
    """The trials of a table with columns `old,new,positive1..5,gt1..5,negative1..5,gn1..5` (case does not matter).

    A pair whose two cells are empty is left out.

    Args:
        layout: what the file does not say itself: `--columns`, `--separator`.

    Raises:
        EditkitError: file, line and reason of the first row that cannot be used.
    """
    trials: list[Trial] = []
    with open_table(path, EDITS, layout) as table:
        for row in table.rows:
            where = f"{path}, line {row.lines[0]}"
            if row.fault:
                raise EditkitError(f"{where}: {row.fault}")
            trials += _trials(row.cells, where)
    if not trials:
        raise EditkitError(f"{path}: expected a row an edit, found a header and no rows")
    return trials


def time_outcomes(pictures: Sequence[Image.Image], trials: Sequence[Trial], alike: Similarity) -> list[bool]:
    """Whether each picture is closer to what its trial wants; a draw is a failure."""
    if len(pictures) != len(trials):
        raise EditkitError(f"TIME's figures: expected a picture a trial, got {len(pictures)} and {len(trials)}")
    likeness = alike(pictures, [(trial.wanted, trial.other) for trial in trials])
    return (likeness[:, 0] > likeness[:, 1]).tolist()


def time_figures(trials: Sequence[Trial], outcomes: Sequence[bool]) -> TimeFigures:
    """The three shares, with intervals."""
    by_kind = {
        kind: rate([good for trial, good in zip(trials, outcomes, strict=True) if trial.kind == kind]) for kind in KINDS
    }
    return TimeFigures(**by_kind)


def detector_similarity(detector: Detector) -> Similarity:
    """A classifier in CLIP's place: the score of the label that the text names, the longest where it names several.

    Raises:
        EditkitError: a text names no label, or a picture cannot be judged.
    """

    def alike(pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> np.ndarray:
        found = zip(detector.detect(pictures), texts, strict=True)
        return np.array([[one.score(_named(text, one.labels)) for text in several] for one, several in found])

    return alike


def _trials(cells: Mapping[str, str], where: str) -> list[Trial]:
    if not cells["old"] or not cells["new"]:
        raise EditkitError(f"{where}: expected an edit, old and new are {cells['old']!r} and {cells['new']!r}")
    found = [Trial("efficacy", cells["old"], cells["new"], cells["old"])]
    for prompt, counterpart in (("positive", "gt"), ("negative", "gn")):
        for i in range(1, 6):
            itself, changed = cells[f"{prompt}{i}"], cells[f"{counterpart}{i}"]
            if bool(itself) != bool(changed):
                raise EditkitError(f"{where}: expected {prompt}{i} and {counterpart}{i} both or neither")
            if itself and prompt == "positive":
                found.append(Trial("generality", itself, changed, itself))
            elif itself:
                found.append(Trial("specificity", itself, itself, changed))
    return found


def _named(text: str, labels: Sequence[str]) -> str:
    inside = [one for one in labels if re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE)]
    if not inside:
        raise EditkitError(f"TIME's figures: expected a label of the detector in {text!r}, found none")
    return max(inside, key=len)
