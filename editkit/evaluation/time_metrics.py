"""TIME's three figures (Orgad, Kawar and Belinkov 2023, section 5): did the edit take, does it carry, did it leak?

An edit `old → new` is judged on pictures of three kinds of prompt. Each picture is asked which of two texts it is
closer to:

- efficacy, prompt `old`: closer to `new`;
- generality, prompts `positive1..5`, which mention the thing that was edited: closer to their destinations `gt1..5`;
- specificity, prompts `negative1..5`, which do not: closer to themselves than to `gn1..5`, what a leak makes of them.

Higher is better for all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.table import Layout, Schema, open_table

KINDS = ("efficacy", "generality", "specificity")
COLUMNS = ("old", "new", *(f"{name}{i}" for name in ("positive", "gt", "negative", "gn") for i in range(1, 6)))
EDITS = Schema(thing="edit", columns={name: (name,) for name in COLUMNS}, main="old", required=COLUMNS, short_rows=True)


@dataclass(frozen=True)
class Trial:
    """A prompt to draw, and what its picture must be closer to than to the other."""

    kind: str
    prompt: str
    wanted: str
    other: str


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


def _trials(cells: Mapping[str, str], where: str) -> list[Trial]:
    if not cells["old"] or not cells["new"]:
        raise EditkitError(f"{where}: expected an edit, old and new are {cells['old']!r} and {cells['new']!r}")
    trials = [Trial("efficacy", cells["old"], cells["new"], cells["old"])]
    for prompt, counterpart in (("positive", "gt"), ("negative", "gn")):
        for i in range(1, 6):
            itself, changed = cells[f"{prompt}{i}"], cells[f"{counterpart}{i}"]
            if bool(itself) != bool(changed):
                raise EditkitError(f"{where}: expected {prompt}{i} and {counterpart}{i} both or neither")
            if itself and prompt == "positive":
                trials.append(Trial("generality", itself, changed, itself))
            elif itself:
                trials.append(Trial("specificity", itself, itself, changed))
    return trials
