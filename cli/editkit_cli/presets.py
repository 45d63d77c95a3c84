"""`editkit presets`: what papers erase and how, by name."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from editkit.erasure.presets.preset import Preset


def presets(
    name: Annotated[str | None, typer.Argument(help="A preset, or a .toml file. Default: list all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the presets of `erase`, `moderate` and `harden`; or print one, with what is typed to do the same."""
    from editkit.erasure.presets.preset_file import load_preset, preset_path
    from editkit.erasure.presets.preset_file import presets as known
    from editkit_cli.show import print_json

    chosen = [load_preset(name)] if name is not None else known()
    if json:
        told = [preset.as_dict() for preset in chosen]
        print_json(told if name is None else told[0])
    elif name is None:
        _show(chosen)
    else:
        print(preset_path(name).read_text(encoding="utf-8").rstrip())
        for method in chosen[0].methods:
            print(f"\n# The same, by {method}:\n{shlex.join(chosen[0].words(method))}")


def _show(known: list[Preset]) -> None:
    """One row each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("preset", "concepts", "methods", "about", "paper")
    for preset in known:
        methods = [f"{name} (default)" if name == preset.method else name for name in preset.methods]
        table.add_row(
            preset.name, str(len(preset.concept)), ", ".join(methods), escape(preset.about), escape(preset.paper)
        )
    Console().print(table)
