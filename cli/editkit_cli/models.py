"""`editkit models` and `info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Json


def models(json: Json = False) -> None:
    """List the bundled models and what they can draw."""
    from editkit.emoji.catalogue import models as bundled
    from editkit_cli.show import print_json, show_model

    described = bundled()
    if json:
        print_json(described)
    else:
        for description in described:
            show_model(description)


def families(json: Json = False) -> None:
    """List the model families, what works with each, and where its prompt enters."""
    from editkit.model.families.table import families as every_family
    from editkit.support import support
    from editkit_cli.show import print_json, show_families

    known = support()
    if json:
        from dataclasses import asdict

        works = {row.family: asdict(row) for row in known}
        print_json([asdict(family) | {"support": works[family.name]} for family in every_family()])
    else:
        show_families(every_family(), known)


def info(edit: Annotated[Path, typer.Argument(help="An edit file.")], json: Json = False) -> None:
    """Print what an edit file says of itself."""
    from editkit.variants.record import info as record_of
    from editkit_cli.show import show_record

    show_record(record_of(edit), edit, json)
