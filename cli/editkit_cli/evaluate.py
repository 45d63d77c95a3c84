"""`editkit evaluate` and `suites`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Json, Model, Profile
from editkit_cli.pictures import (
    Batch,
    Columns,
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
    Separator,
    Size,
    SkipBadRows,
    Steps,
    Storage,
    TileVae,
    TrueCfg,
    print_plan,
    sampling_settings,
)

Weights = Annotated[
    list[str] | None,
    typer.Option(help="NAME=PATH, NAME being clip, detector, inception, lpips or lpips-linear. Repeat for more."),
]


def evaluate(
    edits: Annotated[
        list[str],
        typer.Argument(
            help="Edit files, `base` for the unedited model, RELEASE+KEY for a hidden concept with its key."
        ),
    ],
    suite: Annotated[str, typer.Option(help="What to measure: a name from `editkit suites`, or a .toml file.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the results.")],
    gate: Gate = None,
    guard: Guard = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which of the suite's classes are erased. Default: what the edits say that they erase."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Your prompts, for suites that want them.")] = None,
    columns: Columns = None,
    separator: Separator = None,
    skip_bad_rows: SkipBadRows = False,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds for every prompt, such as 0-7. Default: the file's, else the suite's.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="Who looks at the pictures, in place of the suite's.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="What to count, in place of the suite's. Repeat for more.")
    ] = None,
    weights: Weights = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of pictures to take FID from. Default: the unedited model's.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier results.json (or its folder) to compare these edits with.")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print every class.")] = False,
    model: Model = None,
    profile: Profile = None,
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
    force: Annotated[
        bool, typer.Option("--force", help="Replace earlier results, and compare even what was made otherwise.")
    ] = False,
    json: Json = False,
) -> None:
    """Did the concept go, what else suffered, and is one edit better than another?

    Draws the suite's prompts with every edit, the same noise for each, lets a detector look at the pictures, and prints
    the metrics with 95 % intervals. With several edits, their differences too, picture by picture. Writes results.json,
    pictures.parquet (one row a picture), the pictures and the raw detections. Start it again to go on where it stopped.

    Example: editkit evaluate base church-rece.safetensors --suite emoji-objects --out church/
    """
    from editkit.evaluation.evaluate import evaluate as run
    from editkit.variants.named import behind_gate, behind_guard
    from editkit_cli.show import print_json
    from editkit_cli.show_results import show_results

    settings = sampling_settings(
        steps, guidance, scheduler, negative, size, batch, true_cfg, compile, dtype, storage, offload, tile_vae,
        quantize,
    )  # fmt: skip
    if plan:
        print_plan(model, device, None, len(edits), "0", profile, settings)
        return
    results = run(
        behind_guard(behind_gate(edits, gate), guard),
        suite,
        out,
        model=model,
        split=split,
        prompts=prompts,
        skip_bad_rows=skip_bad_rows,
        columns=columns,
        separator=separator,
        seeds=seeds,
        detector=detector,
        metrics=metric or (),
        weights=places(weights or []),
        reference=reference,
        against=against,
        device=device,
        force=force,
        profile=profile,
        **settings,
    )
    if results is None:
        return
    if json:
        print_json(results.record)
    else:
        show_results(results, per_class)


def places(weights: list[str]) -> dict[str, str]:
    """ "clip=FOLDER" → name and path."""
    from editkit.errors import EditkitError

    for text in weights:
        if "=" not in text:
            raise EditkitError(f"--weights {text}: expected NAME=PATH, such as clip=models/clip-vit-large-patch14")
    return {name: path for name, _, path in (text.partition("=") for text in weights)}


def suites(json: Json = False) -> None:
    """List the suites that `evaluate` knows."""

    from editkit.evaluation.suites.suite import suites as known_suites
    from editkit_cli.show import print_json
    from editkit_cli.show_results import show_suites

    known = known_suites()
    if json:
        print_json(
            [
                {
                    "name": suite.name,
                    "about": suite.about,
                    "protocol": suite.protocol,
                    "version": suite.version,
                    "metrics": suite.metrics,
                    "needs": suite.needs,
                }
                for suite in known
            ]
        )
    else:
        show_suites(known)
