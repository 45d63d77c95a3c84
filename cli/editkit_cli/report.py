"""`editkit compare`, `sensitivity` and `graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Model, Preserve, Vocabulary
from editkit_cli.pictures import (
    Batch,
    Device,
    Guidance,
    Negative,
    Scheduler,
    Seeds,
    Size,
    Steps,
    sampling_settings,
)

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def compare(
    out: Annotated[Path, typer.Option(help="Folder for the report, or a picture file for the grid alone.")],
    edits: Annotated[
        list[str] | None, typer.Argument(help="`base` for the unedited model, and edit files. With --sweep: base.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt. Repeat for more.")] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Make edits of --concept: `epochs=0..5`, `lamb=0.01,0.1,1`. Repeat for all combinations."),
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="With --sweep: what to erase. Repeat for more.")] = None,
    method: Annotated[str, typer.Option(help="With --sweep: `time`, `uce` or `rece`.")] = "rece",
    protect: Annotated[str, typer.Option(help="With --sweep: `minimax`, `prior` or `none`.")] = "minimax",
    guide: Annotated[list[str] | None, typer.Option(help="With --sweep: what a concept becomes.")] = None,
    preserve: Preserve = None,
    vocabulary: Vocabulary = None,
    model: Model = None,
    seeds: Seeds = "0-7",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    force: Force = False,
) -> None:
    """Draw the same prompts with the same noise under several edits: a report, or a grid of one row each."""
    from editkit.concepts.vocabulary import read_word_file

    settings = sampling_settings(steps, guidance, scheduler, negative, size, batch)
    words = read_word_file(vocabulary) if vocabulary else None
    if sweep:
        from editkit.report.sweep import sweep_report

        sweep_report(
            model, concept or [], sweep, out, edits or ["base"], prompt or [], seeds, method, protect, guide or [],
            preserve or [], device, force, words, **settings,
        )  # fmt: skip
        print(f"report: {out / 'index.html'}")
        return
    if concept:
        raise typer.BadParameter("--concept goes with --sweep; for one edit, `editkit erase` makes the file to compare")
    if not edits or not prompt:
        raise typer.BadParameter("give `base` or edit files, and --prompt")
    if out.suffix.lower() in PICTURES:
        from editkit.pictures.commands import compare_grid

        compare_grid(model, edits, prompt, seeds, out, device, force, **settings)
        print(f"picture: {out}")
        return
    from editkit.report.compare import compare_report

    compare_report(model, edits, prompt, seeds, out, device, force, words, **settings)
    print(f"report: {out / 'index.html'}")
