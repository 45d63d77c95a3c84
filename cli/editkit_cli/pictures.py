"""`editkit generate` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Model

Seeds = Annotated[str, typer.Option(help="Seeds, such as 0-7 or 1,4,9.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Guidance = Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")]
Device = Annotated[str | None, typer.Option(help="Where to draw: cpu, cuda, ... Default: a GPU if there is one.")]


def generate(
    out: Annotated[Path, typer.Option(help="A picture file for the grid, or with --prompts a folder.")],
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt. Repeat for more.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="CSV with a column `prompt`.")] = None,
    edit: Annotated[Path | None, typer.Option(help="An edit file to draw with.")] = None,
    model: Model = None,
    seeds: Seeds = "0",
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    force: Force = False,
) -> None:
    """Draw prompts: a grid of one row a prompt, or one file a picture for a prompt file."""
    from editkit.pictures.commands import generate_folder, generate_grid

    if (prompt is None) == (prompts is None):
        raise typer.BadParameter("give --prompt, or --prompts FILE")
    if prompts is not None:
        count, skipped = generate_folder(model, prompts, edit, seeds, out, steps, guidance, device)
        print(f"{count} pictures written to {out}" + (f", {skipped} were there already" if skipped else ""))
        return
    generate_grid(model, prompt or [], edit, seeds, out, steps, guidance, device, force)
    print(f"picture: {out}")


def compare(
    edits: Annotated[list[str], typer.Argument(help="`base` for the unedited model, and edit files.")],
    prompt: Annotated[list[str], typer.Option(help="A prompt. Repeat for more.")],
    out: Annotated[Path, typer.Option(help="Picture file.")],
    model: Model = None,
    seeds: Seeds = "0-7",
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    force: Force = False,
) -> None:
    """Draw the same prompts with the same noise under several edits, one row each."""
    from editkit.pictures.commands import compare_grid

    compare_grid(model, edits, prompt, seeds, out, steps, guidance, device, force)
    print(f"picture: {out}")
