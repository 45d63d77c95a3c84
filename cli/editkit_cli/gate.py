"""`editkit gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Json, Model, Profile


def gate(
    edit: Annotated[Path, typer.Argument(help="An edit file.")],
    captions: Annotated[
        Path | None, typer.Option(help="Neutral captions, one a line. Default: what the model's profile makes.")
    ] = None,
    eps: Annotated[float, typer.Option(help="The share of neutral prompts that may be edited.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the order of the captions.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: EDIT.gate.safetensors.")] = None,
    model: Model = None,
    profile: Profile = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Put an edit behind a gate: prompts that do not ask for what is erased are drawn as by the unedited model.

    Writes a file that every command takes in place of the edit. It is for whoever serves a model: it is no weights, and
    cannot be exported.

    Example: editkit gate church-rece.safetensors --captions captions.txt --eps 0.01 --out church.gate.safetensors
    """
    from editkit.concepts.vocabulary import read_word_file
    from editkit.gating.gated import gated
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record

    out = out or edit.with_name(f"{edit.stem}.gate.safetensors")
    check_free_for_edit(out, force)
    texts = read_word_file(captions) if captions else None
    made = gated(model, edit, texts, eps, seed, profile)
    save_edit(made, out, force)
    show_record(made.record, out, json)
