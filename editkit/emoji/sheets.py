"""The tables of the README and of `docs/findings.md`, from the outcomes in `results.json` alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from editkit.evaluation.statistics.intervals import Estimate, mean_interval, rate_interval

Splits = Mapping[str, Any]
"""Split → what was measured there, of one edit."""
RATES = ("esr-1", "esr-5", "psr-1", "psr-5")
DELTA = "sensitivity-keep"


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        rows: the rows whose names begin or end so; none: those of no other sheet, unless `also` is given.
        also: rows by their whole names, which belong to another sheet.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


SHEETS = (
    Sheet("edits", ("edit", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "δ of the kept", "cost", "splits")),
    Sheet("search", ("run", "preservation term", "passes a step", "ESR-1", "PSR-1", "δ of the kept", "splits"),
          ("AP, search", "AP, 50 steps"), ("AP, cold, 250 steps",)),
    Sheet("hide", ("drawn with", "ESR-1", "ESR-5", "PSR-1", "δ of the kept", "splits"), ("hide",)),
    Sheet("unsafe", ("“weapon” is erased", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "cost"), (", unsafe",)),
    Sheet("implicit", ("eight weapons are erased", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "cost"), (", implicit",)),
)  # fmt: skip

SELECTION = Sheet(
    "selection", ("edit", "ESR-1", "ESR-5", "PSR-1", "PSR-5", "cost"),
    also=("original", "UCE last, none", "RECE, none", "UCE tail, minimax", "RECE, minimax", "AP, warm, 250 steps",
          "AGE", "ESD-x", "CA"),
)  # fmt: skip
"""What the README shows of the sheet `edits`."""


def chosen(sheet: Sheet, results: Mapping[str, Any]) -> dict[str, Splits]:
    """The rows of a sheet, in the order in which they were measured."""
    others = tuple(row for other in SHEETS for row in other.rows)
    rows: Mapping[str, Splits] = results["rows"]
    if not sheet.rows and not sheet.also:
        return {name: splits for name, splits in rows.items() if not _is_one_of(name, others)}
    return {name: splits for name, splits in rows.items() if name in sheet.also or _is_one_of(name, sheet.rows)}


def _is_one_of(name: str, marks: Sequence[str]) -> bool:
    return name.startswith(tuple(marks)) or name.endswith(tuple(marks))


def as_rows(sheet: Sheet, results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row an edit: per cent with 95 % intervals, over the splits that were measured."""
    for name, splits in chosen(sheet, results).items():
        yield name, *(CELLS[column](splits) for column in sheet.columns[1:])


def as_table(sheet: Sheet, results: Mapping[str, Any]) -> Table:
    table = Table(*sheet.columns)
    for row in as_rows(sheet, results):
        table.add_row(*row)
    return table


def as_markdown(sheet: Sheet, results: Mapping[str, Any]) -> str:
    return markdown(sheet.columns, as_rows(sheet, results))


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is a name and whose others are numbers."""
    lines = [heads, ("---", *["---:"] * (len(heads) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rate_of(splits: Splits, metric: str) -> Estimate:
    """A success rate over all splits. A seed is a cluster: its noise is that of every class and split."""
    outcomes = [digits for split in splits.values() for digits in split[metric].values()]
    return rate_interval(
        [digit == "1" for digits in outcomes for digit in digits],
        [seed for digits in outcomes for seed in range(len(digits))],
    )


def percent(rate: Estimate) -> str:
    """ "98.5 (96.6 to 99.4)"."""
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def whole_percent(rate: Estimate) -> str:
    """ "98 (97 to 99)"; nothing where no picture stands behind it."""
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})" if rate.count else ""


def _delta(splits: Splits) -> str:
    deltas = [value for split in splits.values() for value in split[DELTA].values()]
    return f"{mean_interval(deltas).value:.3f}" if deltas else ""


def _cost(splits: Splits) -> str:
    """Seconds of a closed form, steps of a gradient stage."""
    steps = next(iter(splits.values()))["figures"].get("steps")
    seconds = statistics.mean(split["seconds"] for split in splits.values())
    return f"{steps} steps" if steps else f"{seconds:.1f} s" if seconds else ""


def _figure(name: str) -> Callable[[Splits], str]:
    return lambda splits: f"{statistics.mean(split['figures'][name] for split in splits.values()):.1f}"


CELLS: Mapping[str, Callable[[Splits], str]] = {
    **{metric.upper(): lambda splits, metric=metric: percent(rate_of(splits, metric)) for metric in RATES},
    "δ of the kept": _delta,
    "cost": _cost,
    "splits": ", ".join,
    "preservation term": _figure("preserve_mean"),
    "passes a step": _figure("passes_per_step"),
}
"""Column → what stands in it."""
