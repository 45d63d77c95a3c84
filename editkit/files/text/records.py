"""The records of a text file: of a table in one separator, of plain lines, of JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.schema import LINES

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
JSON_START = re.compile(r'\s*(\[\s*(["{\]]|$)|\{\s*("|$))')
"""A list of texts or objects, or an object; not "[a cat:a dog:0.5]" nor "{red|blue} cat", which are prompts."""


@dataclass(frozen=True)
class Record:
    """A record as it stands.

    Attributes:
        lines: of the file, from 1.
        fields: of a table, as written.
        names: of an object of JSON, its keys.
        fault: why it cannot be read.
        nested: places of the fields that are lists, objects or truths of JSON, and no text.
    """

    lines: range
    fields: Sequence[str]
    names: Sequence[str] | None = None
    fault: str = ""
    nested: Sequence[int] = ()

    @property
    def is_blank(self) -> bool:
        return not self.fault and not any(field.strip() for field in self.fields)


def is_json(path: Path, first: str) -> bool:
    """Whether a file is JSON: by its name, or by how it begins."""
    return path.suffix.lower() in JSON_SUFFIXES or JSON_START.match(first) is not None


def table_records(lines: Iterable[str], separator: str, before: int = 0) -> Iterator[Record]:
    """The records of a table; blank ones are passed over.

    Args:
        before: how many lines of the file come before `lines`.
    """
    if separator == LINES:
        records = (Record(range(n, n + 1), [line.strip("\r\n")]) for n, line in enumerate(lines, before + 1))
    else:
        records = _quoted_records(lines, separator, before)
    return (record for record in records if not record.is_blank)


def _quoted_records(lines: Iterable[str], separator: str, before: int) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    start = before + 1
    while True:
        row, fault = [], ""
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"its quotes do not fit: {error}"
        span = range(start, before + reader.line_num + 1)
        start = span.stop
        if fault and len(span) > 1:
            fault += f", on lines {span[0]} to {span[-1]}"
        yield Record(span, row, fault=fault)


def json_records(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    """The items of a list, which is read whole, or an object or text a line, which are read as they are asked for.

    Raises:
        EditkitError: it is no JSON.
    """
    numbered, is_first = enumerate(lines, 1), True
    for n, line in numbered:
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            text = line + "".join(rest for _, rest in numbered)
            yield from _listed(path, text.replace("\r\n", "\n").replace("\r", "\n"), n)
            return
        try:
            record = _record(range(n, n + 1), json.loads(line))
        except (ValueError, RecursionError) as error:
            what = f"an object or text of JSON on each line, got {line.strip()[:80]!r} ({_reason(error)})"
            if is_first:
                raise EditkitError(f"{path}, line {n}: expected a list [...], or {what}") from error
            record = Record(range(n, n + 1), [], fault=f"expected {what}")
        is_first = False
        yield record


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _listed(path: Path, text: str, first: int) -> Iterator[Record]:
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    place, line, counted, closed = text.index("[") + 1, first, 0, False
    while not closed:
        place = _after(space, text, place)
        if text[place : place + 1] == "]":  # of an empty list
            break
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            got = f"got {text[place : place + 40]!r} ({_reason(error)})"
            raise EditkitError(f"{path}, line {line}: expected an item of a JSON list, {got}") from error
        yield _record(range(line, line + 1), value)
        place = _after(space, text, end)
        mark = text[place : place + 1]
        if mark not in (",", "]") or not mark:
            raise EditkitError(f"{path}, line {line}: after this item a JSON list must have , or ]; is it cut off?")
        place, closed = place + 1, mark == "]"
    if text[place:].strip("] \t\r\n"):
        raise EditkitError(f"{path}: more follows the JSON list that it begins with; give one list, or one item a line")


def _after(space: re.Pattern[str], text: str, place: int) -> int:
    match = space.match(text, place)
    return match.end() if match else place


def _record(lines: range, value: object) -> Record:
    if isinstance(value, str):
        return Record(lines, [value], fault=_unwritable(value))
    if not isinstance(value, dict):
        return Record(lines, [], fault=f"expected a text or an object, got {json.dumps(value)[:80]}")
    fields = ["" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in value.values()]
    nested = [place for place, cell in enumerate(value.values()) if isinstance(cell, (list, dict, bool))]
    return Record(lines, fields, list(value), next(filter(None, map(_unwritable, fields)), ""), nested)


def _unwritable(text: str) -> str:
    return "" if text.isascii() or not re.search("[\ud800-\udfff]", text) else "it holds half a character (a surrogate)"
