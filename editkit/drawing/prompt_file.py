"""Prompt files and seed ranges."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.drawing.prompt_rows import PROMPTS, BadRow, PromptCase, cases, prompt_rows
from editkit.errors import EditkitError
from editkit.files.text.table import Layout, open_table

__all__ = ["BadRow", "PromptCase", "PromptFile", "parse_seeds", "read_prompts"]

MOST_SEEDS = 100_000


def parse_seeds(text: str) -> list[int]:
    """ "0-7" or "1,4,9" or "0-3,8"."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError as error:
            raise EditkitError(
                f"--seeds: expected numbers and ranges such as 0-7 or 1,4,9, but got {text!r}"
            ) from error
        if high < low:
            raise EditkitError(f"--seeds: {part.strip()} runs backwards; write {high}-{low}")
        if low < 0 or high >= 2**63 or high - low >= MOST_SEEDS:
            raise EditkitError(f"--seeds: expected at most {MOST_SEEDS:,} seeds from 0 to 2^63 - 1, got {part.strip()}")
        seeds += range(low, high + 1)
    return list(dict.fromkeys(seeds))


@dataclass(frozen=True)
class PromptFile:
    """The rows of a prompt file, read anew by every `for`: 30,000 rows stay on the disk.

    Attributes:
        path: a table, plain lines or JSON; `editkit.drawing.prompt_rows` says what is read.
        count: how many rows are good.
        bad: the rows that were left out.
        layout: what the user says of the file.
    """

    path: Path
    count: int
    bad: tuple[BadRow, ...] = field(default=())
    layout: Layout = field(default_factory=Layout)

    @classmethod
    def open(cls, path: Path, skip_bad_rows: bool = False, layout: Layout | None = None) -> PromptFile:
        """Read through the file once.

        Args:
            layout: what the file does not say itself: `--columns`, `--separator`.

        Raises:
            EditkitError: file, line and reason of the first row that cannot be used, and how many more there are. With
                `skip_bad_rows` they are left out with a warning that names them all; no good row at all is an error.
        """
        if path.exists() and not path.is_file() and not path.is_dir():
            raise EditkitError(f"{path}: prompts are read more than once, which a pipe cannot be; write them to a file")
        count, bad, layout = 0, [], layout or Layout()
        with open_table(path, PROMPTS, layout) as table:
            for row in cases(table):
                if isinstance(row, BadRow):
                    bad.append(row)
                else:
                    count += 1
        if table.note:
            warnings.warn(table.note, stacklevel=2)
        if bad and not skip_bad_rows:
            more = f"; {len(bad) - 1} more of {count + len(bad)} rows are bad" if len(bad) > 1 else ""
            raise EditkitError(f"{path}, line {bad[0].line}: {bad[0].reason}{more}; mend them, or --skip-bad-rows")
        if bad:
            warnings.warn(f"{path}: {len(bad)} of {count + len(bad)} rows left out: {by_reason(bad)}", stacklevel=2)
        if not count:
            raise EditkitError(
                f"{path}: expected at least one prompt, found {'no good rows' if bad else 'none'}; add one"
            )
        return cls(path, count, tuple(bad), layout)

    @property
    def record(self) -> dict[str, Any]:
        """For a result: which file, and which of its rows were left out."""
        with self.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "file": self.path.name,
            "sha256": sha256,
            "rows": self.count,
            **self.layout.record,
            "bad_rows": [{"line": row.line, "reason": row.reason} for row in self.bad],
        }

    def __iter__(self) -> Iterator[PromptCase]:
        return (row for row in prompt_rows(self.path, self.layout) if isinstance(row, PromptCase))

    def __len__(self) -> int:
        return self.count


def read_prompts(path: Path, skip_bad_rows: bool = False, layout: Layout | None = None) -> list[PromptCase]:
    """All rows of a prompt file at once. See `PromptFile`."""
    return list(PromptFile.open(path, skip_bad_rows, layout))


def by_reason(bad: Sequence[BadRow]) -> str:
    """ "the prompt is empty (line 3); 5 fields ... (lines 7-10, 12)"."""
    lines: dict[str, list[int]] = {}
    for row in bad:
        lines.setdefault(row.reason, []).append(row.line)
    return "; ".join(f"{reason} ({'line' if len(of) == 1 else 'lines'} {_ranges(of)})" for reason, of in lines.items())


def _ranges(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
