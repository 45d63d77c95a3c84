"""`editkit refine`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.pictures import Device

Refresh = Annotated[
    int | None,
    typer.Option(help="Outer steps until the bank is drawn anew. Default: when all of it was used once, about."),
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Print the planned memory and stop; with --device cuda, no GPU is needed.")
]


def refine(
    start: Annotated[Path | None, typer.Argument(help="An edit to start from. Default: the unedited model.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the result, the log, checkpoint and previews. Default: CONCEPT-OBJECTIVE."),
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What to erase. Repeat for more. Default: that of EDIT.")
    ] = None,
    guide: Annotated[
        list[str] | None,
        typer.Option(help="What a concept becomes: a text, '' (nothing) or `nearest`. One for all, or one each."),
    ] = None,
    objective: Annotated[str | None, typer.Option(help="`naive`, `esd`, `ca`, `ap` (default) or `age`.")] = None,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="The same as --objective ap.")] = False,
    recipe: Annotated[
        str, typer.Option(help="`paper`, or `authors`: target and search as in their scripts.")
    ] = "paper",
    param: Annotated[
        str | None,
        typer.Option(
            help="What is trained: `xattn` (default), `kv`, `selfattn`, `noxattn`, `full`, `lora:RANK`, or "
            "`GROUP+lora:RANK`."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Outer steps. Default: 1000.")] = None,
    batch: Annotated[int | None, typer.Option(help="Points of a step, of all processes together.")] = None,
    rate: Annotated[float | None, typer.Option(help="Adam's learning rate.")] = None,
    lamb: Annotated[float | None, typer.Option(help="Weight λ of the preservation term.")] = None,
    eta: Annotated[float | None, typer.Option(help="η of esd.")] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="Words to search, one a line, or `tokens`. Default: the model's own, else common words."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Candidates of a concept: its nearest words. Default: 100.")
    ] = None,
    search: Annotated[str | None, typer.Option(help="`gumbel` (default), `exact` or `closed-form`.")] = None,
    search_steps: Annotated[int | None, typer.Option(help="gumbel: ascent steps before each outer step.")] = None,
    search_rate: Annotated[float | None, typer.Option(help="gumbel: size of an ascent step.")] = None,
    tau: Annotated[float | None, typer.Option(help="gumbel: temperature.")] = None,
    hard: Annotated[bool | None, typer.Option("--hard/--soft", help="gumbel: one word, or a mixture of all.")] = None,
    search_every: Annotated[int | None, typer.Option(help="exact, closed-form: outer steps between searches.")] = None,
    no_bank: Annotated[bool, typer.Option("--no-bank", help="A fresh trajectory for every point.")] = False,
    refresh: Refresh = None,
    trajectories: Annotated[int | None, typer.Option(help="Trajectories of each concept in the bank.")] = None,
    sampling_steps: Annotated[int | None, typer.Option(help="DDIM steps of a trajectory.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance of a trajectory. Default: 3.")] = None,
    mixed_precision: Annotated[str | None, typer.Option(help="`no`, `bf16` or `fp16`. Default: what is fast.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a batch is cut into, to save memory.")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Save memory.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of all randomness.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    preview_every: Annotated[int | None, typer.Option(help="Steps between preview grids. Default: none.")] = None,
    tracker: Annotated[str | None, typer.Option(help="One that accelerate knows, such as `tensorboard`.")] = None,
    plan: Plan = False,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a model away from concepts by gradient steps, from scratch or from an edit."""
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.tuning.candidates import read_vocabulary
    from editkit.tuning.options import chosen_objective, defaults
    from editkit.tuning.refine import refine as train
    from editkit.variants.edit_file import load_edit
    from editkit.variants.here import edits_here
    from editkit_cli.show import show_plan, show_record

    opened = open_model(model, profile=profile)
    options = defaults(
        chosen_objective(objective, adversarial),
        opened.source,
        recipe,
        param=param,
        steps=steps,
        batch=batch,
        rate=rate,
        lamb=lamb,
        eta=eta,
        k=k,
        search=search,
        search_steps=search_steps,
        search_rate=search_rate,
        tau=tau,
        hard=hard,
        search_every=search_every,
        bank=False if no_bank else None,
        refresh=refresh,
        trajectories=trajectories,
        sampling_steps=sampling_steps,
        guidance=guidance,
        mixed_precision=mixed_precision,
        accumulate=accumulate,
        gradient_checkpointing=gradient_checkpointing or None,
        seed=seed,
        save_every=save_every,
        preview_every=preview_every,
    )
    words = read_vocabulary(opened, vocabulary)
    if start is None and not concept:
        start = edits_here(opened, linear=True)[0][0]
        print(f"starting from {start}, the newest edit here", file=sys.stderr)
    begin = load_edit(start) if start else None
    concepts = concept or (list(begin.record["concepts"]) if begin else [])
    show_plan(opened.source, options, device, max(1, len(concepts)))
    if plan:
        return
    out = out or Path(f"{file_stem(concepts)}-{options.objective}")
    made = train(opened, out, concepts, begin, guide or (), options, words, device, resume, force, tracker)
    show_record(made.record, out, json)
