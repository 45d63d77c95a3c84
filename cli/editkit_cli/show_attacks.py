"""Print what attacks found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editkit.report.figure_names import number

if TYPE_CHECKING:
    from editkit.evaluation.statistics.intervals import Estimate
    from editkit.redteam.findings import Findings, Line
    from editkit.redteam.hardening import Round

BEST_SHOWN = 3
NULL_HELD = 1e-6
Cells = Mapping[str, "Callable[[Line], str]"]
"""Heading → what stands under it."""
RATES: Cells = {
    "attempts": lambda line: str(line.attempts),
    "before %": lambda line: _percent(line.before),
    "ASR %": lambda line: _percent(line.all),
    "ASR rest %": lambda line: _percent(line.rest),
    "gain": lambda line: "" if line.gain is None else f"{100 * line.gain:+.0f}",
}
WAYS: Cells = {
    "may change": lambda line: line.changes,
    "protocol": lambda line: line.protocol,
    "pictures %": lambda line: _percent(line.each),
    "synonym %": lambda line: "" if line.synonym is None else f"{100 * line.synonym.value:.0f}",
    "loss": lambda line: "" if line.loss is None else number(line.loss),
}
COSTS: Cells = {
    "passes": lambda line: f"{line.cost.passes:,}",
    "backward": lambda line: f"{line.cost.backward:,}",
    "encodings": lambda line: f"{line.cost.encodings:,}",
    "judged": lambda line: f"{line.cost.judged:,}",
    "seconds": lambda line: f"{line.cost.seconds:.1f}",
}
TEXTS = ("may change", "protocol")


def show_findings(findings: Findings, out: Path | None = None) -> None:
    """What came back of every variant, how, and for how much; the best prompts, and what text-free attacks can do."""
    console = Console()
    drawn = any(line.pictures for line in findings.lines)
    for variant in dict.fromkeys(line.variant for line in findings.lines):
        console.print(f"[bold]{escape(variant)}[/]", highlight=False)
        for cells in (RATES, WAYS, COSTS) if drawn else (WAYS, COSTS):
            _show_lines(console, [line for line in findings.lines if line.variant == variant], cells)
    for line in findings.lines:
        if line.figures:
            told = ", ".join(f"{name} {number(value)}" for name, value in line.figures.items())
            console.print(f"{escape(line.variant)}, {line.attack}: {told}", highlight=False)
    _show_matrix(console, findings)
    _show_best(console, findings)
    print(MEANINGS if drawn else "loss: 0 is the concept restored, 1 what the empty prompt is. No picture was drawn.")
    for name, shift in findings.null_shift.items():
        if shift is not None and name != "base":
            print(f"{escape(name)}: {null_sentence(shift)}")
    if out is not None:
        print(f"findings: {out}")
        for page in (file for file in findings.files if file.suffix == ".html"):
            print(f"report: {page}")


MEANINGS = (
    "before: the unattacked prompt at the same seeds. ASR: any picture of an attempt shows the concept, or did before. "
    "ASR rest: of those that did not before. Each with its 95 % interval, concepts as clusters."
)


def null_sentence(shift: float) -> str:
    """What follows for attacks that use no text."""
    if shift < NULL_HELD:
        return (
            "the rows of the empty prompt are held, so an attack that uses no text draws what it draws of the "
            "original, to rounding, and succeeds as often, whatever was erased"
        )
    return (
        f"the rows of the empty prompt move by {shift:.2g} of their size; of the whole edit, attacks that use no text "
        "meet this alone"
    )


def _show_matrix(console: Console, findings: Findings) -> None:
    """Who falls for whose prompts."""
    if not findings.matrix:
        return
    drawn = next(iter(findings.matrix.values()))
    table = Table("found against, success % of what draws", *map(escape, drawn))
    for against, rates in findings.matrix.items():
        table.add_row(escape(against), *map(_percent, rates.values()))
    console.print(table)


def _show_lines(console: Console, lines: Sequence[Line], cells: Cells) -> None:
    """A table of a row an attack; narrow enough for 80 columns."""
    table = Table("attack")
    for name in cells:
        table.add_column(name, justify="left" if name in TEXTS else "right")
    for line in lines:
        table.add_row(line.attack, *(cell(line) for cell in cells.values()))
    console.print(table)


def _percent(rate: Estimate) -> str:
    if not rate.count:
        return ""
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f}-{100 * rate.high:.0f})"


def _show_best(console: Console, findings: Findings) -> None:
    found = [each for each in findings.attempts if each.prompt is not None and each.variant != "base"]
    for variant, attack, concept in dict.fromkeys((each.variant, each.attack, each.concept) for each in found):
        mine = [each for each in found if (each.variant, each.attack, each.concept) == (variant, attack, concept)]
        best = sorted(mine, key=lambda each: (-(each.rate or 0), each.loss if each.loss is not None else 0))
        told = ", ".join(
            f'"{each.prompt}"' + ("" if each.rate is None else f" {100 * each.rate:.0f} %")
            for each in best[:BEST_SHOWN]
        )
        console.print(f"{escape(variant)}, {attack}, {escape(concept)}: {escape(told)}", highlight=False)


def show_round(done: Round) -> None:
    """A line on the error stream, where it does not disturb `--json`."""
    fresh, transfer = done.fresh, "" if done.transfer is None else f", earlier prompts {done.transfer:.0%}"
    words = ", ".join(f"{word!r} alone draws {concept}" for word, concept in done.words.items())
    print(
        f"round {done.number}: fresh attack {fresh.value:.1%} ({fresh.low:.1%} to {fresh.high:.1%}), worst concept "
        f"{done.worst:.0%}{transfer}; rank {done.rank}, floor {done.recovery_floor:.2f}, "
        f"damage {done.damage_mean:.4f}, worst {done.damage_worst:.4f}; "
        f"{done.added} prompts added; {done.seconds:.0f} s" + (f"; {words}: consider --give-up" if words else ""),
        file=sys.stderr,
    )
