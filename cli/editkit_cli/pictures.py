"""`editkit generate`, and the options of drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editkit_cli.edits import Force, Model, Profile

if TYPE_CHECKING:
    from editkit.drawing.sampling import Settings

Seeds = Annotated[str, typer.Option(help="Seeds, such as 0-7 or 1,4,9.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Guidance = Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="`ddim`, `euler`, `dpm++` or the model's `own`. Default: own, for a UNet ddim."),
]
Negative = Annotated[str | None, typer.Option(help="A prompt to lead away from.")]
TrueCfg = Annotated[
    float | None,
    typer.Option(help="Classifier-free guidance scale beside the one that the model reads (FLUX.1). Default: 1, none."),
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network first. Whether that pays depends on the machine: measure it."),
]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels. Default: what the model was trained for.")]
Batch = Annotated[
    int | None,
    typer.Option(
        help="Pictures at a time: fewer need less memory. Default: the profile's, else 8, of large pictures fewer: as "
        "many as have 8 x 512 x 512 pixels (2 of 1024x1024)."
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="What weights are kept and multiplied in: float32, bfloat16 or float16. Default: kept in float32, "
        "multiplied in half precision where the hardware does that."
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(help="fp8: the network's weights are kept in float8, and a layer at a time is cast to --dtype."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="int8: the network's matrices are kept in eight bits (extra quantize, which brings torchao). Encoders, "
        "decoder and what closed-form edits change are not."
    ),
]
Offload = Annotated[
    str | None,
    typer.Option(
        help="What lies in the processor's memory while it does not compute: none, model (whole components) or "
        "sequential (layers, slow). Needs a GPU. Default: none."
    ),
]
TileVae = Annotated[
    bool | None, typer.Option("--tile-vae", help="Decode pictures larger than the decoder's own tile in tiles.")
]
Device = Annotated[str | None, typer.Option(help="Where to draw: cpu, cuda, ... Default: a GPU if there is one.")]
Plan = Annotated[
    bool,
    typer.Option("--plan", help="Print the planned memory and stop; with --device cuda, no GPU is needed."),
]
Guard = Annotated[
    str | None,
    typer.Option(
        help="Lead away from concepts while drawing: sld:medium=weapon, negative=weapon; see `editkit guards`."
    ),
]
Gate = Annotated[str | None, typer.Option(help="What `editkit gate` wrote: draw with the edit behind its gate.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out the rows of a prompt file that cannot be used, and say so.")
]

Columns = Annotated[
    str | None,
    typer.Option(
        help="Prompt file: which column is what, such as prompt=TEXT,seed=SEED,case_number=ID. Names of the header or, "
        "without one, positions from 1."
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(help="Prompt file: what separates columns: a character, or comma, semicolon, tab, pipe, none."),
]


def generate(
    out: Annotated[Path, typer.Option(help="A picture file for the grid, or with --prompts a folder.")],
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt. Repeat for more.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Table with a column `prompt` or `text`, plain lines, or JSON.")
    ] = None,
    columns: Columns = None,
    separator: Separator = None,
    skip_bad_rows: SkipBadRows = False,
    edit: Annotated[Path | None, typer.Option(help="An edit file to draw with, or RELEASE+KEY.")] = None,
    gate: Gate = None,
    guard: Guard = None,
    model: Model = None,
    profile: Profile = None,
    seeds: Seeds = "0",
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
    """Draw prompts: a grid of one row a prompt, or one file a picture for a prompt file."""
    from editkit.drawing.generate import generate as drawn
    from editkit.variants.named import behind_gate, behind_guard

    settings = sampling_settings(
        steps, guidance, scheduler, negative, size, batch, true_cfg, compile, dtype, storage, offload, tile_vae,
        quantize,
    )  # fmt: skip
    if (prompt is None) == (prompts is None):
        raise typer.BadParameter("give --prompt, or --prompts FILE")
    if plan:
        print_plan(model, device, prompt, 1, seeds, profile, settings)
        return
    (chosen,) = behind_guard(behind_gate([str(edit)] if edit else [], gate), guard) or [None]
    made = drawn(
        prompts or prompt or [], out, chosen, seeds, model, device, force, profile, skip_bad_rows, columns, separator,
        **settings,
    )  # fmt: skip
    if isinstance(made, tuple):
        count, there = made
        print(f"{count} pictures written to {out}" + (f", {there} were there already" if there else ""))
    else:
        print(f"picture: {out}")


def print_plan(
    model: str | None,
    device: str | None,
    prompts: list[str] | None,
    variants: int,
    seeds: str,
    profile: Path | None,
    settings: Settings,
) -> None:
    """The planned memory. Without `prompts` there is more than a batch to draw."""
    from editkit.drawing.plan import plan_drawing
    from editkit.drawing.prompt_file import parse_seeds

    pictures = len(prompts) * variants * len(parse_seeds(seeds)) if prompts else None
    print(plan_drawing(model, device, pictures, profile, **settings))


def sampling_settings(
    steps: int | None,
    guidance: float | None,
    scheduler: str | None,
    negative: str | None,
    size: str | None,
    batch: int | None,
    true_cfg: float | None,
    compile: bool,
    dtype: str | None = None,
    storage: str | None = None,
    offload: str | None = None,
    tile_vae: bool | None = None,
    quantize: str | None = None,
) -> Settings:
    """The options of drawing, as the library takes them."""
    from editkit.drawing.sampling import parse_size

    return {
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
        "negative": negative,
        "size": None if size is None else parse_size(size),
        "batch": batch,
        "true_cfg": true_cfg,
        "compile": compile or None,
        "dtype": dtype,
        "storage": storage,
        "offload": offload,
        "tile_vae": tile_vae,
        "quantize": quantize,
    }
