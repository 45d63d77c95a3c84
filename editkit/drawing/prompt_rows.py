"""The rows of a prompt file, as such files are found in the wild.

A header names the columns, in any order and case; other columns are ignored:

    prompt, text                                             the prompt
    case_number, image_id, id                                names the picture files; "00012" stays as it is
    evaluation_seed, sd_seed, seed                           the row's own seed
    evaluation_guidance, sd_guidance_scale, guidance_scale, guidance
                                                             the row's own guidance
    class, label_str, artist, concept                        what the prompt is about

Without a header, the one column that holds text is the prompt. Rows are numbered from 0 where nothing numbers them.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from editkit.errors import EditkitError

COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "text"),
    "case_number": ("case_number", "image_id", "id"),
    "seed": ("evaluation_seed", "sd_seed", "seed"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance_scale", "guidance"),
    "label": ("class", "label_str", "artist", "concept"),
}
EMPTY = ("", "nan", "none", "null")
T = TypeVar("T")


@dataclass(frozen=True)
class PromptCase:
    """One row of a prompt file.

    Attributes:
        case_number: names the picture files.
        label: what the prompt is about: a class, an artist, a concept.
        seed, guidance: the row's own, where it has them.
    """

    case_number: str
    prompt: str
    seed: int | None = None
    label: str | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why. Lines count from 1."""

    line: int
    reason: str


class UnusableError(Exception):
    """Why a row cannot be used; becomes a `BadRow`."""


def prompt_rows(path: Path) -> Iterator[PromptCase | BadRow]:
    """Every row of a prompt file, good or bad, read as it is asked for.

    Raises:
        EditkitError: the file cannot be read, or holds no prompts.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if path.suffix.lower() == ".txt":
                yield from _lines(stream)
            else:
                yield from _table(path, stream, "\t" if path.suffix.lower() == ".tsv" else ",")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
        raise EditkitError(f"{path}: expected a CSV file, but it cannot be read ({what})") from error


def _lines(stream: TextIO) -> Iterator[PromptCase]:
    written = (line.strip() for line in stream)
    for number, prompt in enumerate(line for line in written if line):
        yield PromptCase(str(number), prompt)


def _table(path: Path, stream: TextIO, delimiter: str) -> Iterator[PromptCase | BadRow]:
    records = _records(csv.reader(stream, delimiter=delimiter, strict=True))
    first = next(records, None)
    if first is None:
        raise EditkitError(f"{path}: expected a CSV with a column 'prompt' (or 'text'), but the file is empty")
    columns = _header(path, first[1])
    width = len(first[1])
    if "prompt" not in columns:
        columns = _without_header(path, first[1])
        records = _put_back(first, records)
    seen: dict[tuple[str, int | None], tuple[str, int]] = {}
    for number, (lines, row) in enumerate(records):
        try:
            case = _case(number, _fields(columns, row, width, lines))
            place = (case.case_number, case.seed)
            prompt, before = seen.setdefault(place, (case.prompt, lines[0]))
            if prompt != case.prompt:
                raise UnusableError(
                    f"case number {case.case_number} with this seed names another prompt on line {before}"
                )
            yield case
        except UnusableError as reason:
            yield BadRow(lines[0], str(reason))


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[range, list[str]]]:
    """Each record with its lines; empty lines are passed over."""
    start = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = [f"\0{error}"]
        lines = range(start, reader.line_num + 1)  # type: ignore[attr-defined]
        start = lines.stop
        if any(field.strip() for field in row):
            yield lines, row


def _put_back(first: T, rest: Iterator[T]) -> Iterator[T]:
    yield first
    yield from rest


def _header(path: Path, row: Sequence[str]) -> dict[str, int]:
    """Which column holds what; without `prompt` where the first row is no header."""
    names = [field.strip().lower() for field in row]
    found = {}
    for meaning, spellings in COLUMNS.items():
        place = next((names.index(one) for one in spellings if one in names), None)
        if place is not None:
            found[meaning] = place
    if "prompt" not in found:
        near = [name for name in names if difflib.get_close_matches(name, COLUMNS["prompt"], cutoff=0.8)]
        if found or near:
            columns = ", ".join(filter(None, names))
            rename = repr(near[0]) if near else "the column of the prompts"
            raise EditkitError(f"{path}: expected a column 'prompt' or 'text', found {columns}; rename {rename}")
    return found


def _without_header(path: Path, row: Sequence[str]) -> dict[str, int]:
    """A file of prompts alone, or with numbers beside them, which are not guessed at."""
    texts = [place for place, field in enumerate(row) if field.strip() and not _is_number(field)]
    if len(texts) != 1:
        raise EditkitError(
            f"{path}: expected a CSV with a column 'prompt' (or 'text'), found {', '.join(map(repr, row))[:120]}; "
            "add a header line such as prompt,evaluation_seed"
        )
    return {"prompt": texts[0]}


def _fields(columns: Mapping[str, int], row: Sequence[str], width: int, lines: range) -> dict[str, str]:
    if row[0].startswith("\0"):
        to = f", on lines {lines[0]} to {lines[-1]}" if len(lines) > 1 else ""
        raise UnusableError(f"its quotes do not fit: {row[0][1:]}{to}")
    if len(row) != width:
        hint = "a prompt with commas needs quotes" if len(row) > width else "is it cut off?"
        if len(lines) > 1:
            hint = f"is a quote on line {lines[0]} not closed? It reaches to line {lines[-1]}"
        than = "more" if len(row) > width else "fewer"
        raise UnusableError(f"{than} fields than the {width} of the first line; {hint}")
    return {meaning: row[place].strip() for meaning, place in columns.items()}


def _case(number: int, fields: Mapping[str, str]) -> PromptCase:
    if not fields["prompt"]:
        raise UnusableError("the prompt is empty")
    case_number = _given(fields, "case_number", str) or str(number)
    if not re.fullmatch(r"[\w-][\w.-]*", case_number):
        raise UnusableError(f"case number {case_number!r} must name a file; use letters and digits")
    seed = _given(fields, "seed", _whole)
    if seed is not None and not 0 <= seed < 2**63:
        raise UnusableError(f"expected a seed from 0 to 2^63 - 1, got {seed}")
    return PromptCase(
        case_number, fields["prompt"], seed, _given(fields, "label", str), _given(fields, "guidance", _real)
    )


def _given(fields: Mapping[str, str], name: str, read: Callable[[str], T]) -> T | None:
    written = fields.get(name, "")
    return None if written.lower() in EMPTY else read(written)


def _whole(written: str) -> int:
    """ "7", and "7.0" as pandas writes a column with gaps."""
    try:
        return int(written.removesuffix(".0"))
    except ValueError as error:
        raise UnusableError(f"expected a whole number as seed, got {written!r}") from error


def _real(written: str) -> float:
    if not _is_number(written) or not math.isfinite(float(written)):
        raise UnusableError(f"expected a number as guidance, got {written!r}")
    return float(written)


def _is_number(written: str) -> bool:
    try:
        float(written)
    except ValueError:
        return False
    return True
