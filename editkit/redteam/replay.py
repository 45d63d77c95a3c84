"""Found prompts of an earlier run, drawn with other variants: who falls for whose prompts?"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.decoding import open_text

NEEDED = ("attack", "prompt", "source_edit_hash", "concept")


@dataclass(frozen=True)
class FoundPrompt:
    """A prompt that an attack found.

    Attributes:
        edit_sha256: of the edit that it was found against; empty for the unedited model.
        against: the name that this edit had.
    """

    attack: str
    concept: str
    source: str
    prompt: str
    edit_sha256: str
    against: str
    loss: float | None


@dataclass(frozen=True)
class Replay:
    """A file of found prompts, each once."""

    path: Path
    sha256: str
    rows: tuple[FoundPrompt, ...]

    def protocol(self, found: FoundPrompt, sha256: str | None) -> str:
        """`adaptive` for the very edit that a prompt was found against, else `transfer:` and that one's name."""
        return "adaptive" if found.edit_sha256 == (sha256 or "") else f"transfer:{found.against}"


def read_found(path: Path) -> Replay:
    """The prompts of a `found.csv`.

    Raises:
        EditkitError: file, line and reason where it is no such file; attacks without prompts cannot be replayed.
    """
    with open_text(path) as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise EditkitError(
                f"{path}: expected the columns {', '.join(NEEDED)}, as `editkit attack --out` writes found.csv; it has "
                f"no {missing[0]!r}"
            )
        rows = tuple(dict.fromkeys(_found(path, reader)))
    if not rows:
        raise EditkitError(f"{path}: holds no found prompt; embeddings and latents cannot be replayed from a table")
    return Replay(path, hashlib.sha256(path.read_bytes()).hexdigest(), rows)


def _found(path: Path, reader: csv.DictReader[str]) -> Iterator[FoundPrompt]:
    for row in reader:
        if None in row or None in row.values():
            raise EditkitError(
                f"{path}, line {reader.line_num}: expected {len(reader.fieldnames or ())} fields as in the header, got "
                f"{'more' if None in row else 'fewer'}; mend it"
            )
        if not row["prompt"]:
            continue
        try:
            loss = float(row["loss"]) if row.get("loss") else None
        except ValueError as error:
            raise EditkitError(f"{path}, line {reader.line_num}: loss {row['loss']!r} is no number; mend it") from error
        yield FoundPrompt(
            row["attack"], row["concept"], row.get("source") or row["prompt"], row["prompt"], row["source_edit_hash"],
            row.get("variant") or "base", loss,
        )  # fmt: skip
