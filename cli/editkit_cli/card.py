"""`editkit verify`."""

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
