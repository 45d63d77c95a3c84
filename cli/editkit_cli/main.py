"""The `editkit` command. Heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from editkit.errors import EditkitError
from editkit.plugins import GROUPS
from editkit_cli import (
    attack,
    card,
    components,
    debias,
    edits,
    evaluate,
    gate,
    hide,
    inspection,
    invert,
    ledger,
    models,
    moderate,
    pictures,
    presets,
    recipes,
    refine,
    report,
)  # fmt: skip
from editkit_cli.groups import Commands

COMMANDS: Mapping[str, Callable[..., None] | type[Commands]] = {
    "erase": edits.erase,
    "edit": edits.edit,
    "moderate": moderate.moderate,
    "debias": debias.debias,
    "invert": invert.invert,
    "ledger": ledger.Ledger,
    "compose": edits.compose,
    "export": edits.export,
    "verify": card.verify,
    "card": card.card,
    "refine": refine.refine,
    "hide": hide.hide,
    "recover": hide.recover,
    "inspect": inspection.inspect,
    "attack": attack.attack,
    "harden": attack.harden,
    "gate": gate.gate,
    "generate": pictures.generate,
    "compare": report.compare,
    "evaluate": evaluate.evaluate,
    "suites": evaluate.suites,
    "presets": presets.presets,
    "sensitivity": report.sensitivity,
    "graph": report.graph,
    "run": recipes.run,
    "recipes": recipes.recipes,
    "models": models.models,
    "info": models.info,
    **{group: components.listing(group) for group in GROUPS if group != "families"},
    "families": models.families,
}


class Root(Commands):
    """The commands that stand on their own, and groups."""

    functions = COMMANDS


app = typer.Typer(
    name="editkit",
    cls=Root,
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
