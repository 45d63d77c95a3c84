"""Found prompts of an earlier run, drawn with other variants: who falls for whose prompts?"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from editkit.errors import EditkitError
from editkit.files.text.decoding import open_text
from editkit.variants.named import BASE

NEEDED = ("attack", "prompt", "source_edit_hash", "concept")
AGNOSTIC = "agnostic"


class Origin(NamedTuple):
    """Where an attempt comes from: the protocol, and the name and hash of the variant that it was found against."""

    protocol: str
    against: str
    sha256: str | None


@dataclass(frozen=True)
class ReplayRow:
    """A prompt that an attack found.

    Attributes:
        edit_sha256: of the edit that it was found against; empty for the unedited model, and where none was asked.
        against: the name that this edit had; `agnostic` where none was asked.
    """

    attack: str
    concept: str
    source: str
    prompt: str
    edit_sha256: str
    against: str
    loss: float | None

    def origin(self, sha256: str | None) -> Origin:
        """As an attempt on the variant of that hash has it: `adaptive` for the very edit that it was found against,
        else `transfer:` and that one's name; `agnostic` for all where no model was asked."""
        if self.against == AGNOSTIC:
            return Origin(AGNOSTIC, AGNOSTIC, None)
        is_same = self.edit_sha256 == (sha256 or "")
        return Origin("adaptive" if is_same else f"transfer:{self.against}", self.against, self.edit_sha256 or None)


@dataclass(frozen=True)
class Replay:
    """A file of found prompts, each once."""

    path: Path
    sha256: str
    rows: tuple[ReplayRow, ...]


def read_found(path: Path) -> Replay:
    """The prompts of a `found.csv`.

    Raises:
        EditkitError: file, line and reason where it is no such file; attacks without prompts cannot be replayed.
    """
    with open_text(path) as lines:
        reader = csv.DictReader(lines)
        try:
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise EditkitError(
                    f"{path}: expected the columns {', '.join(NEEDED)}, as `editkit attack --out` writes found.csv; it "
                    f"has no {missing[0]!r}"
                )
            found = dict.fromkeys(_found(path, row, reader) for row in reader)
        except csv.Error as error:
            raise EditkitError(f"{path}, line {reader.line_num + 1}: {error}; mend it") from error
    rows = tuple(each for each in found if each is not None)
    if not rows:
        raise EditkitError(f"{path}: holds no found prompt; embeddings and latents cannot be replayed from a table")
    return Replay(path, hashlib.sha256(path.read_bytes()).hexdigest(), rows)


def _found(path: Path, row: dict[str, str], reader: csv.DictReader[str]) -> ReplayRow | None:
    where = f"{path}, line {reader.line_num}"
    if None in row or None in row.values():
        raise EditkitError(
            f"{where}: expected {len(reader.fieldnames or ())} fields as in the header, got "
            f"{'more' if None in row else 'fewer'}; mend it"
        )
    if not row["prompt"]:
        return None
    for name in ("attack", "concept"):
        if not row[name].strip():
            raise EditkitError(f"{where}: {name} is empty; say which, or take the line out")
    loss = _number(where, row["loss"]) if row.get("loss") else None
    asked_none = row.get("protocol") == AGNOSTIC
    against = AGNOSTIC if asked_none else row.get("against") or row.get("variant") or BASE
    return ReplayRow(
        row["attack"], row["concept"], row.get("source") or row["prompt"], row["prompt"],
        "" if asked_none else row["source_edit_hash"], against, loss,
    )  # fmt: skip


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise EditkitError(f"{where}: loss {text!r} is no number; mend it") from error
    if not isfinite(value):
        raise EditkitError(f"{where}: loss {text!r} is not finite; mend it")
    return value
