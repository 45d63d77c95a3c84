"""`editkit methods`, `editkit detectors` and so on: every component of a group, with its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from editkit.plugins import GROUPS


def listing(group: str) -> Callable[..., None]:
    """The command that lists the components of `group`."""

    def command(json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
        from editkit.plugins import describe

        known = describe(group)
        if json:
            _print_json(known)
        for component in [] if json else known:
            _print(component)

    command.__doc__ = f"List the {group}: {GROUPS[group].about}."
    return command


def _print_json(known: list[Any]) -> None:
    from json import dumps

    print(dumps([component.as_dict() for component in known], indent=2, ensure_ascii=False, default=str))


def _print(component: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    whence = "" if component.origin == "editkit" else f" (from {component.origin})"
    console.print(Text.assemble((component.name, "bold"), whence, ": ", component.summary))
    if component.source:
        console.print(f"    {component.source}", markup=False)
    for known in component.options:
        console.print(f"    {known.described}", markup=False)
