"""Lists of concepts as they are published: plain lines, tables of prompts with a column of concepts, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.decoding import decode_text
from editkit.files.text.table import Layout, Schema, open_table

KEYS = "keys"
"""The column that says: of an object of JSON, the names themselves."""
CONCEPTS = Schema(
    thing="concept",
    columns={
        "concept": (
            "concept", "concepts", "class", "name", "names", "artist", "artists", "celebrity", "celebrities", "keyword",
            "keywords", "target", "object", "objects", "style", "character", "label_str", "label", "word", "words",
        )
    },
    main="concept",
    ranked=False,
    options=False,
    flag="--concepts-column",
    comments=True,
)  # fmt: skip
"""How a table may head its column of concepts. A prompt is none: "A portrait of Ada Lovelace" is about one."""


@dataclass(frozen=True)
class ConceptList:
    """What a file holds.

    Attributes:
        column: what the file calls the concepts; empty for plain lines and lists.
        concepts: each once, in the order in which they come.
        rows: how many the file has.
    """

    path: Path
    column: str
    concepts: tuple[str, ...]
    rows: int

    @property
    def told(self) -> str:
        """What was read, in a line.

        >>> ConceptList(Path("big.csv"), "artist", ("Ada", "Bea"), 5).told
        "big.csv: 2 concepts of column 'artist'; 3 of 5 rows say one again"
        >>> ConceptList(Path("six.csv"), "concept", ("ada_l",), 1).told
        "six.csv: 1 concept of column 'concept'; 1 with an underscore, read as it stands"
        """
        count = len(self.concepts)
        parts = [f"{count} concept{'s' if count > 1 else ''}" + (f" of column {self.column!r}" if self.column else "")]
        if self.rows > count:
            parts.append(f"{self.rows - count} of {self.rows} rows say one again")
        marked = sum("_" in concept for concept in self.concepts)
        if marked:
            parts.append(f"{marked} with an underscore, read as {'it stands' if marked == 1 else 'they stand'}")
        return f"{self.path}: {'; '.join(parts)}"


def read_concept_file(path: Path, column: str | None = None) -> ConceptList:
    """The concepts of a file, each once; case makes no other concept.

    Plain text: one a line; blank lines and lines that start with `#` are skipped. A table: the column that is headed as
    `CONCEPTS` says, or `column`. JSON: a list of texts, a list of objects with such a key, or an object of lists, of
    which `column` names one, or `KEYS` its names.

    Args:
        column: which one: a name of the header or of JSON, or a position from 1 where a table has no header.

    Raises:
        EditkitError: the file cannot be read, holds no concept, or nothing says which column they are.
    """
    lists = _lists(path)
    if lists is not None:
        name, words = _chosen(path, lists, column)
        return _listed(path, name, words)
    heading, words = "", []
    with open_table(path, CONCEPTS, Layout.of({} if column is None else {CONCEPTS.main: column})) as table:
        for row in table.rows:
            if row.fault or not row.cells[CONCEPTS.main]:
                raise EditkitError(f"{path}, line {row.lines[0]}: {row.fault or 'the concept is empty'}; mend it")
            heading = heading or row.heading
            words.append(row.cells[CONCEPTS.main])
    return _listed(path, heading, words)


def _listed(path: Path, column: str, words: Sequence[str]) -> ConceptList:
    if not words:
        raise EditkitError(f"{path}: expected one concept a line, found none; add some")
    known: dict[str, str] = {}
    for word in words:
        known.setdefault(word.casefold(), word)
    return ConceptList(path, column, tuple(known.values()), len(words))


def _lists(path: Path) -> Mapping[str, object] | None:
    """An object of JSON over the whole file, one of whose values is a list; else None. Objects a line are rows."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    try:
        whole = json.loads(decode_text(path, path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None  # the reader of rows says what is wrong with it
    return whole if isinstance(whole, dict) and any(isinstance(value, list) for value in whole.values()) else None


def _chosen(path: Path, lists: Mapping[str, object], column: str | None) -> tuple[str, list[str]]:
    if column == KEYS and KEYS not in lists:
        return KEYS, list(lists)
    named = [name for name in lists if column is None or name.casefold() == column.casefold()]
    if len(named) != 1:
        flag, names = CONCEPTS.flag, ", ".join(map(repr, lists))
        what = "which of its lists is meant" if column is None else f"no list {column!r}"
        raise EditkitError(
            f"{path}: {what}? It has {names[:200]}; say one with {flag} NAME, or {flag} {KEYS}: these names"
        )
    return named[0], list(_texts(path, named[0], lists[named[0]]))


def _texts(path: Path, name: str, values: object) -> Iterator[str]:
    for value in values if isinstance(values, list) else [values]:
        if not isinstance(value, str) or not value.strip():
            raise EditkitError(f"{path}: expected a list of texts as {name!r}, got {json.dumps(value)[:80]} in it")
        yield value.strip()
