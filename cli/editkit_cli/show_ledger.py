"""Print ledgers, for people or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editkit_cli.show import print_json

if TYPE_CHECKING:
    from editkit.erasure.ledger.ledger import Ledger


def show_ledger(ledger: Ledger, path: Path, as_json: bool) -> None:
    """What holds for all concepts, and one row a concept."""
    if as_json:
        entries = [entry.as_dict() for entry in ledger.entries]
        more = {"resolved": ledger.resolved, "sha256": ledger.sha256}
        print_json({"file": str(path), **ledger.header, "entries": entries, **more})
        return
    console = Console()
    how = [str(ledger.options["method"]), f"protect {ledger.options.get('protect')}", f"synonyms {ledger.synonyms}"]
    console.print(f"model [bold]{escape(ledger.model)}[/], {escape(', '.join(how))}: {count(ledger)}")
    if ledger.preserve:
        console.print(f"preserved: {escape(', '.join(map(repr, ledger.preserve)))}")
    table = Table("concept", "becomes", "erased with it", "who", "why", "when")
    for entry in ledger.entries:
        more = [*entry.synonyms, *map(repr, entry.found)]
        guide = _shown(entry.guide)
        if entry.concept in ledger.resolved:
            guide += f" → {_shown(ledger.resolved[entry.concept])}"
        table.add_row(*map(escape, (entry.concept, guide, ", ".join(more), entry.who, entry.why, entry.when)))
    if ledger.entries:
        console.print(table)


def show_change(path: Path, what: str, before: Ledger, after: Ledger) -> None:
    """What was done, and whose guide is another one's because of it."""
    print(f"{path}: {what}, {count(after)}")
    was, now = before.resolved, after.resolved
    for entry in after.entries:
        concept, guide = entry.concept, _shown(entry.guide)
        if concept in now and now[concept] != was.get(concept, entry.guide):
            print(f"{concept} becomes {_shown(now[concept])}, since {guide} is erased, too")
        elif concept in was and concept not in now:
            print(f"{concept} becomes {guide} again")


def count(ledger: Ledger) -> str:
    """How many concepts it holds."""
    return f"{len(ledger.entries)} concept{'s' if len(ledger.entries) != 1 else ''}"


def _shown(guide: str | None) -> str:
    return "the default" if guide is None else guide if guide.strip() else "nothing"
