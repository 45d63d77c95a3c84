"""The `editkit` command. Heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from editkit.errors import EditkitError
from editkit_cli import edits, evaluate, hide, inspection, models, pictures, refine, report

app = typer.Typer(
    name="editkit",
    help="Remove, change and balance concepts in text-to-image diffusion models, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Before any command."""


app.command()(edits.erase)
app.command()(edits.edit)
app.command()(edits.compose)
app.command()(edits.export)
app.command()(refine.refine)
app.command()(hide.hide)
app.command()(hide.recover)
app.command()(inspection.inspect)
app.command()(pictures.generate)
app.command()(report.compare)
app.command()(evaluate.evaluate)
app.command()(evaluate.suites)
app.command()(report.sensitivity)
app.command()(report.graph)
app.command(name="models")(models.models)
app.command()(models.families)
app.command()(models.info)


def main() -> None:
    """Run the command line. Exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app()
    except EditkitError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
