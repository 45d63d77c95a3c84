"""Prompt files and seed ranges."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError

MOST_SEEDS = 100_000


@dataclass(frozen=True)
class PromptCase:
    """One row of a prompt file."""

    case_number: str
    prompt: str
    seed: int | None = None


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


def read_prompts(path: Path) -> list[PromptCase]:
    """A CSV with a `prompt` column; `case_number` and a seed (`evaluation_seed`, `sd_seed`, `seed`) are used if there.

    Raises:
        EditkitError: file, line and reason of the first row that cannot be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if "prompt" not in (reader.fieldnames or ()):
                raise EditkitError(
                    f"{path}: expected a CSV with a column 'prompt', found {reader.fieldnames or 'nothing'}"
                )
            cases = [_case(path, reader.line_num, number, row) for number, row in enumerate(reader)]
            _check_apart(path, cases)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EditkitError(f"{path}: expected a CSV file, but it cannot be read ({error})") from error
    if not cases:
        raise EditkitError(f"{path}: a header and no rows; add at least one prompt")
    return cases


def _case(path: Path, line: int, number: int, row: dict[str, str]) -> PromptCase:
    prompt = (row.get("prompt") or "").strip()
    if not prompt:
        raise EditkitError(f"{path}, line {line}: the prompt is empty; fill it in or drop the row")
    written = next((row[name] for name in ("evaluation_seed", "sd_seed", "seed") if row.get(name)), None)
    try:
        seed = None if written is None else int(written)
    except ValueError as error:
        raise EditkitError(f"{path}, line {line}: expected a whole number as seed, got {written!r}") from error
    if seed is not None and not 0 <= seed < 2**63:
        raise EditkitError(f"{path}, line {line}: expected a seed from 0 to 2^63 - 1, got {seed}")
    case_number = (row.get("case_number") or str(number)).strip()
    if not re.fullmatch(r"[\w.-]+", case_number) or case_number.startswith("."):
        raise EditkitError(f"{path}, line {line}: case_number {case_number!r} names a file; use letters and digits")
    return PromptCase(case_number, prompt, seed)


def _check_apart(path: Path, cases: list[PromptCase]) -> None:
    """Two prompts must not go to one picture file."""
    first: dict[tuple[str, int | None], str] = {}
    for case in cases:
        if first.setdefault((case.case_number, case.seed), case.prompt) != case.prompt:
            raise EditkitError(
                f"{path}: case_number {case.case_number} names two prompts with one seed; number them apart"
            )
