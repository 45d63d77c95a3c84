"""The `editkit` command. Heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from editkit.errors import EditkitError
from editkit.plugins import GROUPS
from editkit_cli import attack, components, edits, evaluate, hide, inspection, models, pictures, refine, report
from editkit_cli.options import with_flags

COMMANDS: Mapping[str, Callable[..., None]] = {
    "erase": edits.erase,
    "edit": edits.edit,
    "compose": edits.compose,
    "export": edits.export,
    "refine": refine.refine,
    "hide": hide.hide,
    "recover": hide.recover,
    "inspect": inspection.inspect,
    "attack": attack.attack,
    "harden": attack.harden,
    "generate": pictures.generate,
    "compare": report.compare,
    "evaluate": evaluate.evaluate,
    "suites": evaluate.suites,
    "sensitivity": report.sensitivity,
    "graph": report.graph,
    "models": models.models,
    "info": models.info,
    **{group: components.listing(group) for group in GROUPS if group != "families"},
    "families": models.families,
}


class Commands(TyperGroup):
    """The commands by name. One is built when it is called: the flags of some are read from what they import."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Its name and help alone: all that a list of commands shows."""
        command = COMMANDS.get(cmd_name)
        return None if command is None else TyperCommand(name=cmd_name, help=command.__doc__)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or name is None:
            return name, command, rest
        info = CommandInfo(name=name, callback=with_flags(COMMANDS[name]))
        whole = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="rich")
        return name, whole, rest


app = typer.Typer(
    name="editkit",
    cls=Commands,
    help="Remove, change and balance concepts in text-to-image diffusion models, and measure what that does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Before any command."""


def main() -> None:
    """Run the command line. Exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app(prog_name="editkit")
    except EditkitError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
