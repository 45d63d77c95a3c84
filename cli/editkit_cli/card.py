"""`editkit verify` and `card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Json, Tokenizer


def verify(
    model: Annotated[str, typer.Argument(help="What is in question: a diffusers folder or a .safetensors checkpoint.")],
    edit: Annotated[Path, typer.Argument(help="An edit file, or a folder of `refine`.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="The unedited model; all other weights must be its own. Default: the one that the edit names; what "
            "the edit may change is then all that is compared."
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    json: Json = False,
) -> None:
    """Say whether a model is a base with an edit in it: yes, no, or that the base is not at hand.

    Applies the edit to the base as `export` does and compares tensor by tensor. Exits with 1 unless it says yes.

    Example: editkit verify church-model/ church-rece.safetensors --base emoji
    """
    from editkit.errors import EditkitError
    from editkit.variants.verify import YES
    from editkit.variants.verify import verify as verify_model
    from editkit_cli.show import print_json

    found = verify_model(model, edit, base, tokenizer)
    if json:
        print_json(found.as_dict())
        raise typer.Exit(0 if found.answer == YES else 1)
    if found.answer != YES:
        raise EditkitError(f"{model}, {edit}: {found.answer}: {found.why}")
    print(f"yes: {model} is {found.base or 'its base'} with {edit}: {found.why}")


def card(
    edit: Annotated[Path, typer.Argument(help="An edit file, or a folder of `refine`.")],
    model: Annotated[
        str | None,
        typer.Option(help="The base: the edit is checked against it. Default: what the edit names, unchecked."),
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of `evaluate` that measured this very file. Repeat for more.")
    ] = None,
    attacks: Annotated[
        list[Path] | None, typer.Option(help="Folder of `attack` on this very file. Repeat for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, README.md for instance. Default: print it.")] = None,
    push: Annotated[
        str | None, typer.Option(help="ORG/NAME on the Hub: make this repository and put the card and the edit in it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what --push would put where; send nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing file, and add to a repository that is there already.")
    ] = False,
) -> None:
    """Write the model card of an edit: what, how, for which weights, what was measured, and what brings it back.

    Example: editkit card church-rece.safetensors --results results/ --attacks attacks/ --out README.md
    """
    from editkit.publishing.card import card as make

    made = make(edit, model, results or (), attacks or (), out, push, dry_run, force)
    if out is None and push is None:
        print(made.text, end="")
    if out is not None:
        print(f"card: {out}")
    if made.push is not None:
        print("\n".join(made.push.told if made.commit is None else [f"commit: {made.commit}"]))
