"""Print what a balanced concept shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_shares(console: Console, told: Mapping[str, Any]) -> None:
    """Every share before and after, and what was surely reached; `told` is `debias` of a record."""
    table = Table("concept", "attribute", "wanted", "before", "after", "95 % interval", title="Shares of pictures")
    table.title_justify = "left"
    last = ""
    for row in told["shares"]:
        name = "" if row["concept"] == last else row["concept"]
        last, after = row["concept"], row["after"]
        table.add_row(
            escape(name), escape(row["attribute"]), _share(row["wanted"]), _share(row["before"]["value"]),
            _share(after["value"]), f"{_share(after['low'])} to {_share(after['high'])}",
        )  # fmt: skip
    console.print(table)
    missed = [concept for concept, reached in told["reached"].items() if not reached]
    within = f"within {100 * told['max_diff']:g} points of what was wanted"
    of = f"{told['certify']} fresh pictures each, seeds from {told['seeds']['fresh']}, judged by {told['judge']}"
    if missed:
        few = " for certain: more --certify tell more" if told["certify"] < 1600 else ""
        console.print(f"not reached ({within}{few}): {escape(', '.join(missed))}", highlight=False, soft_wrap=True)
    else:
        console.print(f"reached: every whole interval is {within}", highlight=False)
    console.print(f"{of}; the rounds ended since: {escape(told['stopped'])}", highlight=False, soft_wrap=True)
    for concept, kept in told["kept"].items():
        if kept["after"]["high"] < kept["before"]["value"]:
            shown = f"{_share(kept['after']['value'])} of its pictures, before {_share(kept['before']['value'])}"
            console.print(f"[red]{escape(concept)} is seen in {shown}[/]", highlight=False)
    if told["failed"]:
        console.print(f"[red]{told['failed']} pictures could not be judged; they count nowhere[/]")


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"
