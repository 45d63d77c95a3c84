"""`editkit methods`, `editkit detectors` and so on: every component of a group, with its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.plugins import GROUPS

if TYPE_CHECKING:
    from editkit.plugins import Component


def listing(group: str) -> Callable[..., None]:
    """The command that lists the components of `group`."""

    def command(json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
        from editkit.plugins import describe
        from editkit_cli.show import print_json

        known = describe(group)
        if json:
            print_json([component.as_dict() for component in known])
        else:
            _show(known)

    command.__doc__ = f"List the {group}: {GROUPS[group].about}."
    return command


def _show(known: list[Component]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for component in known:
        whence = "" if component.origin == "editkit" else f"  from {component.origin}"
        default = "  default" if component.name == GROUPS[component.group].default else ""
        console.print(Text.assemble((component.usage, "bold"), (default + whence, "dim")))
        for text in filter(None, (component.summary, component.source and f"Source: {component.source}")):
            console.print(Padding(Text(text), (0, 0, 0, 2)))
        if component.options:
            console.print(Padding(_options(component), (0, 0, 0, 4)))
        console.print()


def _options(component: Component) -> Any:
    """One row an option: how it is typed, its type and default, what it does."""
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(max_width=30)
    rows.add_column(ratio=1)
    for option in component.options:
        name = option.flag if GROUPS[component.group].flags else option.name
        rows.add_row(Text(name, "cyan"), Text(option.form, "dim"), Text(option.help))
    return rows
