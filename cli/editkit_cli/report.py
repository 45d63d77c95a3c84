"""`editkit compare`, `sensitivity` and `graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit.plugins import GROUPS
from editkit_cli.edits import ConceptsColumn, ConceptsFile, Force, Json, Model, Preserve, Profile, concepts_of
from editkit_cli.pictures import (
    Batch,
    Compile,
    Device,
    Dtype,
    Gate,
    Guard,
    Guidance,
    Negative,
    Offload,
    Plan,
    Quantize,
    Scheduler,
    Seeds,
    Size,
    Steps,
    Storage,
    TileVae,
    TrueCfg,
    print_plan,
    sampling_settings,
)


def compare(
    edits: Annotated[
        list[str] | None,
        typer.Argument(
            help="`base` for the unedited model, edit files, RELEASE+KEY. Default: base and every edit in this folder."
        ),
    ] = None,
    gate: Gate = None,
    guard: Guard = None,
    out: Annotated[Path, typer.Option(help="Folder for the report, or a picture file for the grid alone.")] = Path(
        "report"
    ),
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A prompt. Repeat for more. Default: what the edits erase, and words near and far."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Make edits of --concept: `epochs=0..5`, `lamb=0.01,0.1,1`. Repeat for all combinations."),
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="With --sweep: what to erase. Repeat for more.")] = None,
    method: Annotated[str, typer.Option(help="With --sweep: see `editkit methods`.")] = GROUPS["methods"].default,
    protect: Annotated[str | None, typer.Option(help="With --sweep: `minimax` (default), `prior` or `none`.")] = None,
    guide: Annotated[list[str] | None, typer.Option(help="With --sweep: what a concept becomes.")] = None,
    preserve: Preserve = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="With --sweep: words to protect, one a line. Default: the model's own words.")
    ] = None,
    model: Model = None,
    profile: Profile = None,
    seeds: Seeds = "0-7",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    true_cfg: TrueCfg = None,
    compile: Compile = False,
    size: Size = None,
    batch: Batch = None,
    dtype: Dtype = None,
    storage: Storage = None,
    quantize: Quantize = None,
    offload: Offload = None,
    tile_vae: TileVae = None,
    device: Device = None,
    plan: Plan = False,
    force: Force = False,
) -> None:
    """Draw the same prompts with the same noise under several edits: a report, or a grid of one row each."""
    if concept and not sweep:
        raise typer.BadParameter("--concept goes with --sweep; for one edit, `editkit erase` makes the file to compare")
    from editkit.concepts.vocabulary import read_word_file
    from editkit.report.command import compare as compared
    from editkit.variants.named import behind_gate, behind_guard

    settings = sampling_settings(
        steps, guidance, scheduler, negative, size, batch, true_cfg, compile, dtype, storage, offload, tile_vae,
        quantize,
    )  # fmt: skip
    if plan:
        print_plan(model, device, prompt if edits else None, len(edits or ()), seeds, profile, settings)
        return
    words = read_word_file(vocabulary) if vocabulary else None
    names = behind_guard(behind_gate(edits or (), gate), guard)
    compared(
        names, prompt or (), seeds, out, model, sweep or (), concept or (), method, protect, guide or (),
        preserve or (), words, device, force, profile, **settings,
    )  # fmt: skip
    print(f"picture: {out}" if out.is_file() else f"report: {out / 'index.html'}")


Pictures = Annotated[bool, typer.Option("--pictures", help="Also measure δ on pictures of every word.")]
Clip = Annotated[Path | None, typer.Option(help="Folder with a CLIP model, to score pictures of other models by.")]


def sensitivity(
    edit: Annotated[Path | None, typer.Argument(help="An edit file.")] = None,
    edit_option: Annotated[Path | None, typer.Option("--edit", help="The same, as an option.")] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="Words to look at, one a line. Default: the model's own words.")
    ] = None,
    pictures: Pictures = False,
    out: Annotated[
        Path | None, typer.Option(help="Plot to write (.svg or .png); numbers go beside it (.json).")
    ] = None,
    model: Model = None,
    profile: Profile = None,
    seeds: Seeds = "0-3",
    clip: Clip = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    true_cfg: TrueCfg = None,
    compile: Compile = False,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """What an edit does to every word: in closed form within milliseconds, and with --pictures measured."""
    from editkit.concepts.vocabulary import read_word_file
    from editkit.report.sensitivity import sensitivity as told_of
    from editkit_cli.show import print_json, show_sensitivity

    chosen = edit or edit_option
    if chosen is None or (edit and edit_option):
        raise typer.BadParameter("give one edit file: `editkit sensitivity FILE`")
    settings = sampling_settings(steps, guidance, scheduler, negative, size, batch, true_cfg, compile)
    words = read_word_file(vocabulary) if vocabulary else None
    result = told_of(model, chosen, words, pictures, seeds, out, device, clip, force, profile, **settings)
    if json:
        print_json(result.as_dict())
    else:
        show_sensitivity(result, out)


def graph(
    out: Annotated[Path, typer.Option(help="Folder for matrix.svg, graph.svg and graph.json.")],
    concept: Annotated[list[str] | None, typer.Option(help="A concept. Repeat for more.")] = None,
    concepts_file: ConceptsFile = None,
    concepts_column: ConceptsColumn = None,
    method: Annotated[str, typer.Option(help="`time`, `uce` or `rece`.")] = "uce",
    protect: Annotated[
        str, typer.Option(help="`prior`, `none` or `minimax`. The prior shows best who is near whom.")
    ] = "prior",
    pictures: Pictures = False,
    png: Annotated[bool, typer.Option("--png", help="Also write matrix.png and graph.png.")] = False,
    model: Model = None,
    profile: Profile = None,
    seeds: Seeds = "0-3",
    clip: Clip = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    true_cfg: TrueCfg = None,
    compile: Compile = False,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Erase each concept of a list in turn, and draw what that does to all the others."""
    from editkit.edits.method import Options
    from editkit.report.concept_graph import graph as drawn
    from editkit_cli.show import print_json, show_graph

    settings = sampling_settings(steps, guidance, scheduler, negative, size, batch, true_cfg, compile)
    concepts = concepts_of(concept, concepts_file, concepts_column)
    result = drawn(
        model, concepts, out, Options(method, protect=protect), pictures, seeds, device, clip, force, png, profile,
        **settings,
    )  # fmt: skip
    if json:
        print_json(result.as_dict())
    else:
        show_graph(result, out)
