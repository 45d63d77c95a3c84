"""`editkit attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.plugins import GROUPS
from editkit_cli.edits import Json, Model, Profile
from editkit_cli.options import flags, group


@flags(group("attacks"))
def attack(
    edit: Annotated[Path, typer.Argument(help="An edit file: the model is attacked with it.")],
    attack: Annotated[str, typer.Option(help="See `editkit attacks`; several with commas.")] = GROUPS[
        "attacks"
    ].default,
    concept: Annotated[
        list[str] | None, typer.Option(help="What to bring back. Repeat for more. Default: what the edit erases.")
    ] = None,
    model: Model = None,
    profile: Profile = None,
    json: Json = False,
    **given: Any,
) -> None:
    """Try to bring back what an edit erased. Nothing is drawn."""
    from editkit.redteam.attack import attack as attacked
    from editkit_cli.show import print_json, show_findings

    names = [name.strip() for name in attack.split(",") if name.strip()]
    findings = attacked(edit, concept or (), names, model, profile, **given)
    if json:
        print_json([finding.as_dict() for finding in findings])
    else:
        show_findings(findings)
