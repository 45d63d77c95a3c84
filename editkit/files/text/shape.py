"""How a table is laid out: its separator, header and columns. Told from its first lines, never guessed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.header import header_places, mentions_prompt, no_column, place_of
from editkit.files.text.records import Record, table_records
from editkit.files.text.schema import LINES, Layout, Schema, is_position, plain, separator_name

SEPARATORS = (",", ";", "\t", "|")
USUAL = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
"""Endings of tables, and what separates their columns where nothing says otherwise. Other files are plain lines where
they do not show a header."""
EXCEL = re.compile(r'"?sep=(.)"?[;,\t|]*\s*$', re.IGNORECASE)
"""Excel's first line, which names the separator."""
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Shape:
    """How to read a file.

    Attributes:
        places: meaning → which field, from 0.
        width: fields of every row.
        header: whether the first record is one.
        heading: of the main column, where there is a header.
        note: what the user should know of it.
    """

    separator: str
    places: Mapping[str, int]
    width: int
    header: bool
    heading: str = ""
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """The beginning of a file, split in one way."""

    separator: str
    records: Sequence[Record]

    @property
    def first(self) -> Sequence[str]:
        return self.records[0].fields

    @property
    def is_table(self) -> bool:
        """Whether all rows have the same number of columns, more than one."""
        widths = {len(record.fields) for record in self.records if not record.fault}
        return len(widths) == 1 and min(widths) > 1

    def numeric(self, records: Sequence[Record] | None = None) -> list[int]:
        """The places of the columns that hold numbers alone, or nothing."""
        rows = [record.fields for record in (self.records if records is None else records) if not record.fault]
        return [place for place in range(len(self.first)) if all(_is_number_at(row, place) for row in rows)]


@dataclass(frozen=True)
class Finder:
    """Finds the shape of one file.

    Attributes:
        lines: the first of the file.
        is_whole: whether there are no more.
    """

    path: Path
    lines: Sequence[str]
    is_whole: bool
    schema: Schema
    layout: Layout

    def shape(self) -> Shape:
        """
        Raises:
            EditkitError: it cannot be told for sure.
        """
        separators = SEPARATORS if self.layout.separator is None else (self.layout.separator,)
        usual = USUAL.get(self.path.suffix.lower(), LINES) if self.layout.separator is None else separators[0]
        samples = [sample for sample in map(self.sample, separators) if not sample.records[0].fault]
        if not samples and usual != LINES:
            raise self.unsure(f"cannot be read: {self.sample(usual).records[0].fault}", self.lines_remedy)
        headed = [sample for sample in samples if len(sample.first) > 1 and self.is_headed(sample)]
        if len(headed) > 1:
            raise self.unsure(f"fits the separators {_names(headed)}", "--separator says which it is")
        if headed:
            return self.with_header(headed[0])
        if all(len(sample.first) == 1 for sample in samples):
            return self.single(self.sample(usual))
        if self.layout.separator is None and usual == LINES:
            return self.plain_lines(samples)
        return self.without_header(samples, usual)

    def sample(self, separator: str) -> Sample:
        records = list(table_records(self.lines, separator))
        return Sample(separator, records if self.is_whole or len(records) < 3 else records[:-1])

    @property
    def named(self) -> dict[str, str]:
        """What the user calls by the names of a header."""
        return {meaning: name for meaning, name in self.layout.columns.items() if not is_position(name)}

    def is_headed(self, sample: Sample) -> bool:
        """Whether the first record is a header in this separator. Plain text could begin with "text, neon sign": there
        two columns must be known."""
        names = {plain(name) for name in sample.first}
        if self.named:
            return all(plain(name) in names for name in self.named.values())
        known = {self.schema.meaning(name) for name in sample.first}
        is_table = self.path.suffix.lower() in USUAL or self.layout.separator is not None
        is_sure = len(known - {None}) > 1 or (None not in known and self.schema.comments)
        return self.schema.main in known and (is_table or is_sure)

    def with_header(self, sample: Sample) -> Shape:
        places = header_places(self.path, sample.first, self.schema, self.layout)
        if self.schema.main not in places:
            raise self.no_column(sample)
        missing = [name for name in self.schema.required if name not in places]
        if missing:
            raise EditkitError(
                f"{self.path}: expected the columns {', '.join(self.schema.required)}; {missing[0]} is not there"
            )
        heading = sample.first[places[self.schema.main]].strip()
        return Shape(sample.separator, places, len(sample.first), header=True, heading=heading)

    def single(self, sample: Sample) -> Shape:
        """A file of one column."""
        self.check_single(sample)
        name, main, is_plain = sample.first[0], self.schema.main, sample.separator == LINES
        headless = Shape(sample.separator, {main: 0}, 1, header=False)
        headed = replace(headless, header=True, heading=name.strip())
        if main in self.layout.columns:
            return headless if is_position(self.layout.columns[main]) else headed
        if self.schema.heads_alone(name):
            if is_plain and (self.schema.comments or self.schema.meaning(name) != main):
                raise self.unsure_heading(name)
            return headed
        if not is_plain and self.schema.options and mentions_prompt(name):
            raise self.unsure_heading(name)
        is_other = self.schema.meaning(name) is not None or sample.numeric(sample.records[1:] or sample.records)
        if not is_plain and is_other:
            raise self.no_column(sample)
        return headless

    def check_single(self, sample: Sample) -> None:
        """Refuse one column where the user or the schema says that there are more."""
        if self.layout.separator:
            headed = [other for other in map(self.sample, SEPARATORS) if len(other.first) > 1 and self.is_headed(other)]
            if headed:
                raise self.unsure(
                    f"has one column in the separator {separator_name(sample.separator)}",
                    f"--separator {separator_name(headed[0].separator)}, perhaps",
                )
        if self.schema.required:
            raise self.no_column(sample)
        for meaning, column in self.layout.columns.items():
            is_there = column == "1" if is_position(column) else plain(column) == plain(sample.first[0])
            if meaning != self.schema.main or not is_there:
                raise self.unsure("is the only column", f"{self.schema.typed(meaning, column)} is not there")

    def plain_lines(self, samples: Sequence[Sample]) -> Shape:
        """A file of no table's ending: plain lines, unless every line has the same columns and one of them is numbers
        (with commas, which prompts have: the first of them)."""
        for sample in samples:
            numeric = sample.numeric(sample.records[1:] or sample.records) if sample.is_table else []
            wanted = max((int(name) for name in self.layout.columns.values() if is_position(name)), default=1)
            if wanted > 1 or self.named or (0 in numeric if sample.separator == "," else numeric):
                return self.without_header(samples, LINES)
        return self.single(self.sample(LINES))

    def without_header(self, samples: Sequence[Sample], usual: str) -> Shape:
        """A table whose first record is none: numbers beside one column of text, or columns by their positions."""
        fitting = [
            sample for sample in samples if sample.is_table or (sample.separator == usual and len(sample.first) > 1)
        ]
        if not fitting:
            return self.single(self.sample(usual))
        if len(fitting) > 1:
            raise self.unsure(f"fits the separators {_names(fitting)}", "--separator says which it is")
        sample = fitting[0]
        if self.named or self.schema.required:
            raise self.no_column(sample)
        if self.layout.columns:
            heads = any(self.schema.meaning(name) or mentions_prompt(name) for name in sample.first) or (
                len(sample.records) > 1 and sample.numeric() != sample.numeric(sample.records[1:])
            )
            return Shape(sample.separator, self.positions(sample.first), len(sample.first), header=heads)
        texts = [place for place in range(len(sample.first)) if place not in sample.numeric()]
        heads = [name for name in sample.first if self.schema.heads_alone(name) or self.near(name)]
        if len(texts) != 1 or heads or not sample.is_table or (usual == LINES and self.layout.separator is None):
            raise self.no_column(sample)
        if not self.schema.options:
            return Shape(sample.separator, {self.schema.main: texts[0]}, len(sample.first), header=False)
        note = (
            f"{self.path}: it has no header; column {texts[0] + 1} is read as the {self.schema.thing}, the numbers "
            f"beside it are not used; --columns {self.schema.main}={texts[0] + 1},... says what they are"
        )
        return Shape(sample.separator, {self.schema.main: texts[0]}, len(sample.first), header=False, note=note)

    def positions(self, first: Sequence[str]) -> dict[str, int]:
        if self.schema.main not in self.layout.columns:
            raise EditkitError(f"--columns: {self.path} has no header; say where the {self.schema.main} is, too")
        return {
            meaning: place_of(self.schema, meaning, name, len(first)) for meaning, name in self.layout.columns.items()
        }

    def near(self, name: str) -> bool:
        return bool(difflib.get_close_matches(plain(name), self.schema.columns[self.schema.main], cutoff=0.8))

    def no_column(self, sample: Sample) -> EditkitError:
        """No header that is known, and more than one column, or one of numbers."""
        return no_column(self.path, sample.first, self.schema, self.layout, f"the first line is {self.line!r}")

    def unsure_heading(self, name: str) -> EditkitError:
        """Of a first line that is a heading in one file, and a row in another."""
        main = self.schema.main
        remedy = f"write '# {name.strip()}' if it is a header; if not, put it on another line"
        if self.schema.options:
            remedy = f"--columns '{main}={name.strip()}' says that it is a header, --columns {main}=1 that it is none"
        return self.unsure(f"may be a header or a {self.schema.thing}", remedy)

    @property
    def lines_remedy(self) -> str:
        return f"--separator none, if every line is a {self.schema.thing}" if self.schema.options else "mend its quotes"

    @property
    def line(self) -> str:
        return next(line for line in self.lines if line.strip()).strip("\r\n")[:120]

    def unsure(self, what: str, remedy: str) -> EditkitError:
        return EditkitError(f"{self.path}: its first line {self.line!r} {what}; {remedy}")


def _is_number_at(row: Sequence[str], place: int) -> bool:
    field = row[place].strip() if place < len(row) else ""
    return not field or NUMBER.fullmatch(field) is not None


def _names(samples: Sequence[Sample]) -> str:
    return " and ".join(separator_name(sample.separator) for sample in samples)
