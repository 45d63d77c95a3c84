"""What a table may hold, and what a user says of a table that it does not say itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from editkit.errors import EditkitError

LINES = ""
"""The separator of a file that has none: every line is a row."""

SPELLINGS = {
    "comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "bar": "|", "none": LINES,
}  # fmt: skip
NAMES = {"\t": "tab", LINES: "none"}


@dataclass(frozen=True)
class Schema:
    """The columns that a reader knows.

    Attributes:
        thing: what a row is, for the errors: "prompt", "word".
        columns: meaning → the names that a header may give it, the preferred one first. Case, spaces and dashes do
            not matter.
        main: the meaning that every row has, and that the only column of a file has.
        headings: further names that head the only column of a file, where among several they would mean another thing.
        required: meanings that a header must have.
        ranked: whether the first of several names is meant; if not, they are an error.
        options: whether the command has `--columns` and `--separator` to name in an error.
        flag: the option that names the main column alone, where a command has one.
        comments: lines that start with `#` are skipped; the first line of plain text is data.
        short_rows: cells that are missing at the end of a row are empty.
    """

    thing: str
    columns: Mapping[str, tuple[str, ...]]
    main: str
    headings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    ranked: bool = True
    options: bool = True
    flag: str = ""
    comments: bool = False
    short_rows: bool = False

    def meaning(self, name: str) -> str | None:
        """Of a column's name, None where it is unknown."""
        spelling = plain(name)
        return next((meaning for meaning, names in self.columns.items() if spelling in names), None)

    def typed(self, meaning: str, column: str) -> str:
        """How a user says which column has that meaning.

        >>> Schema("word", {"word": ("word",)}, "word", flag="--words-column").typed("word", "NAME")
        '--words-column NAME'
        """
        return f"{self.flag} {column}" if self.flag and meaning == self.main else f"--columns {meaning}={column}"

    def heads_alone(self, name: str) -> bool:
        """Whether `name` is the heading of a file of one column."""
        return self.meaning(name) == self.main or plain(name) in self.headings


@dataclass(frozen=True)
class Layout:
    """What a user says of a table.

    Attributes:
        columns: meaning → a name of the header or, in a file without a header, the position from 1.
        separator: one character; "" for a file of plain lines; None to find it out.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None

    @classmethod
    def of(cls, columns: str | Mapping[str, str | int] | None = None, separator: str | None = None) -> Layout:
        """As it is typed.

        Args:
            columns: "prompt=TEXT,seed=3", or a mapping.
            separator: a character, or one of comma, semicolon, tab, pipe, none.

        Raises:
            EditkitError: it is neither.

        >>> Layout.of("prompt=My text,seed=3", "tab")
        Layout(columns={'prompt': 'My text', 'seed': '3'}, separator='\\t')
        """
        pairs = _pairs(columns) if isinstance(columns, str) else dict(columns or {})
        return cls({key: str(name) for key, name in pairs.items()}, _separator(separator))

    @property
    def record(self) -> dict[str, object]:
        """What was said, for a result."""
        said = {} if self.separator is None else {"separator": self.separator}
        return {**({"columns": dict(self.columns)} if self.columns else {}), **said}

    def check(self, schema: Schema) -> None:
        """Refuse columns that the schema does not know."""
        for meaning in self.columns:
            if meaning not in schema.columns:
                raise EditkitError(f"--columns {meaning}=...: expected one of {', '.join(schema.columns)} before the =")


def plain(name: str) -> str:
    """A column's name without case, spaces and dashes.

    >>> plain(" Case-Number")
    'case_number'
    """
    return re.sub(r"[\s\-]+", "_", name.strip()).casefold()


def is_position(name: str) -> bool:
    return name.isascii() and name.isdigit()


def separator_name(separator: str) -> str:
    """As a user types it.

    >>> separator_name(";"), separator_name("\\t")
    ("';'", 'tab')
    """
    return NAMES.get(separator) or repr(separator)


def _pairs(columns: str) -> dict[str, str | int]:
    pairs: dict[str, str | int] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", columns):
        meaning, equals, name = (text.strip() for text in part.partition("="))
        if not (meaning and equals and name) or meaning in pairs:
            raise EditkitError(f"--columns {columns}: expected MEANING=NAME, such as prompt=TEXT,seed=3")
        pairs[meaning] = name
    return pairs


def _separator(typed: str | None) -> str | None:
    if typed is None or typed == LINES:
        return typed
    separator = SPELLINGS.get(typed.strip().lower(), typed)
    if separator != LINES and (len(separator) != 1 or separator.isalnum() or separator in "\"'\r\n"):
        raise EditkitError(f"--separator {typed!r}: expected one character such as ; or one of {', '.join(SPELLINGS)}")
    return separator
