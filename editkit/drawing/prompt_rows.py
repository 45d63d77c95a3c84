"""The rows of a prompt file, as such files are found in the wild.

`editkit.files.text` reads the file, in whatever encoding, separator or form. A header names the columns, in any order
and case; other columns are ignored:

    prompt, text, caption                                    the prompt
    case_number, image_id, id                                names the picture files; "00012" stays as it is
    evaluation_seed, sd_seed, seed                           the row's own seed
    evaluation_guidance, sd_guidance_scale, guidance_scale, guidance
                                                             the row's own guidance
    class, label_str, artist, concept                        what the prompt is about

Without a header, the one column that holds text is the prompt. Rows are numbered from 0 where nothing numbers them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from editkit.files.text.table import Layout, Row, Schema, Table, open_table

PROMPTS = Schema(
    thing="prompt",
    columns={
        "prompt": ("prompt", "text", "caption", "prompts", "texts", "captions"),
        "case_number": ("case_number", "image_id", "id"),
        "seed": ("evaluation_seed", "sd_seed", "seed"),
        "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance_scale", "guidance"),
        "label": ("class", "label_str", "artist", "concept"),
    },
    main="prompt",
    headings=("class", "label", "label_str", "artist", "concept", "concepts", "word", "words", "name", "title",
              "description", "sentence"),
)  # fmt: skip
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


def prompt_rows(path: Path, layout: Layout | None = None) -> Iterator[PromptCase | BadRow]:
    """Every row of a prompt file, good or bad, read as it is asked for.

    Raises:
        EditkitError: the file cannot be read, or nothing says which column holds the prompts.
    """
    with open_table(path, PROMPTS, layout) as table:
        yield from cases(table)


def cases(table: Table) -> Iterator[PromptCase | BadRow]:
    """The rows of an open prompt file. Two prompts under one name are a fault of the second."""
    seen: dict[tuple[str, int | None], tuple[str, int]] = {}
    for number, row in enumerate(table.rows):
        try:
            case = _case(number, row)
            place = (case.case_number, case.seed)
            prompt, before = seen.setdefault(place, (case.prompt, row.lines[0]))
            if prompt != case.prompt:
                raise UnusableError(
                    f"case number {case.case_number} with this seed names another prompt on line {before}"
                )
            yield case
        except UnusableError as reason:
            yield BadRow(row.lines[0], str(reason))


def _case(number: int, row: Row) -> PromptCase:
    fields = row.cells
    if row.fault:
        raise UnusableError(row.fault)
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
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnusableError(f"expected a number as guidance, got {written!r}")
    return number
