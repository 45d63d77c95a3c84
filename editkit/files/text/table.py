"""The one reader of the text files that users give: prompts, words, TIME's edits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.decoding import open_text
from editkit.files.text.records import Record, is_json, json_records, table_records
from editkit.files.text.schema import LINES, Layout, Schema, separator_name
from editkit.files.text.shape import EXCEL, Finder, Shape, header_places, no_column

SAMPLE = 200
"""Lines that tell the layout."""


@dataclass(frozen=True)
class Row:
    """A row by the meanings of its columns.

    Attributes:
        lines: of the file, from 1.
        cells: meaning → text without space around it; columns that are not there are left out.
        fault: why it cannot be used.
        heading: what the file calls the main column; empty where it calls it nothing.
    """

    lines: range
    cells: Mapping[str, str]
    fault: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """An open file.

    Attributes:
        rows: read as they are asked for (a JSON list: whole).
        note: what the user should know of how it is read; empty where all is plain.
    """

    rows: Iterator[Row]
    note: str = ""


@contextmanager
def open_table(path: Path, schema: Schema, layout: Layout | None = None) -> Iterator[Table]:
    """Read a file as what it is: a table with a header in `,` `;` tab or `|`, plain lines, a JSON list, JSON lines.

    A table may begin with Excel's `sep=;`. Without a header, the only column of text is the main one.

    Raises:
        EditkitError: it cannot be read, is no text, or its layout cannot be told for sure.
    """
    layout = layout or Layout()
    layout.check(schema)
    with open_text(path) as lines:
        lines = _without_comments(lines) if schema.comments else lines
        start = list(islice(lines, SAMPLE))
        first = next((line for line in start if line.strip()), "")
        if not first:
            or_comments = " and comments" if schema.comments else ""
            raise EditkitError(
                f"{path}: expected a {schema.thing} a line, found only blank lines{or_comments}; add some"
            )
        whole = chain(start, lines)
        if layout.separator is None and is_json(path, first):
            yield Table(_json_rows(path, whole, schema, layout))
            return
        excel, before = EXCEL.match(first), 0
        if excel is not None:
            before = start.index(first) + 1
            whole, start = islice(whole, before, None), start[before:]
            layout = layout if layout.separator is not None else replace(layout, separator=excel.group(1))
            if not any(line.strip() for line in start):
                raise EditkitError(f"{path}: expected a {schema.thing} a line, but there is only {first.strip()!r}")
        shape = Finder(path, start, len(start) < SAMPLE - before, schema, layout).shape()
        yield Table(_table_rows(whole, before, shape, schema), shape.note)


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """Comments become blank lines, so that the others keep their numbers."""
    return ("\n" if line.lstrip().startswith("#") else line for line in lines)


def _table_rows(lines: Iterable[str], before: int, shape: Shape, schema: Schema) -> Iterator[Row]:
    records = table_records(lines, shape.separator, before)
    for record in islice(records, int(shape.header), None):
        fields = list(record.fields)
        while len(fields) > shape.width and not fields[-1].strip():
            fields.pop()
        if schema.short_rows:
            fields += [""] * (shape.width - len(fields))
        fault = record.fault or _wrong_width(record, len(fields), shape)
        cells = {} if fault else {name: fields[n].strip() for name, n in shape.places.items()}
        yield Row(record.lines, cells, fault, shape.heading)


def _wrong_width(record: Record, count: int, shape: Shape) -> str:
    if count == shape.width:
        return ""
    lines, separator = record.lines, shape.separator
    is_more = count > shape.width
    mark = "commas" if separator == "," else separator_name(separator)
    hint = f"text with {mark} in it needs quotes" if is_more else "is it cut off?"
    if len(lines) > 1:
        hint = f"is a quote on line {lines[0]} not closed? It reaches to line {lines[-1]}"
    return f"{'more' if is_more else 'fewer'} fields than the {shape.width} of the first line; {hint}"


def _json_rows(path: Path, lines: Iterable[str], schema: Schema, layout: Layout) -> Iterator[Row]:
    """Texts are the main column; every object says itself what its values mean."""
    is_first = True
    for record in json_records(path, lines):
        names = record.names
        places = {schema.main: 0} if names is None else header_places(path, names, schema, layout)
        missing = [name for name in schema.required or (schema.main,) if name not in places]
        if missing and is_first and not record.fault:
            keys = ", ".join(map(repr, names or ()))[:120]
            shown = f"the first object has {keys or 'nothing'}"
            raise no_column(path, names or (), schema, layout, shown, is_table=False)
        is_first = False
        fault = record.fault or (f"no {missing[0]!r} among its keys" if missing else "")
        nested = [name for name, place in places.items() if place in record.nested]
        if nested and not fault:
            fault = f"expected a text or a number as {nested[0]}, got {record.fields[places[nested[0]]][:80]}"
        cells = {} if fault else {name: record.fields[n].strip() for name, n in places.items()}
        heading = "" if names is None or schema.main not in places else names[places[schema.main]]
        yield Row(record.lines, cells, fault, heading)


__all__ = ["LINES", "Layout", "Row", "Schema", "Table", "open_table"]
