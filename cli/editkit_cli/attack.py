"""`editkit attack`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.plugins import GROUPS
from editkit_cli.edits import Force, Json, Model, Preset, Prior, Profile, Vocabulary
from editkit_cli.options import flags, group
from editkit_cli.pictures import (
    Batch,
    Compile,
    Device,
    Gate,
    Guard,
    Guidance,
    Negative,
    Scheduler,
    Size,
    Steps,
    TrueCfg,
    sampling_settings,
)


@flags(group("attacks"))
def attack(
    variants: Annotated[
        list[str], typer.Argument(help="Edit files, what refine or hide made, `base`, RELEASE+KEY; or a model.")
    ],
    attack: Annotated[str, typer.Option(help="See `editkit attacks`; several with commas.")] = GROUPS[
        "attacks"
    ].default,
    gate: Gate = None,
    guard: Guard = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What to bring back. Repeat for more. Default: what the edits erase.")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Whose classes, templates and detector are used.")] = None,
    split: Annotated[str | None, typer.Option(help="Which of the suite's classes are attacked.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Your unattacked prompts, in place of the templates.")] = None,
    detector: Annotated[str | None, typer.Option(help="Who looks at the pictures.")] = None,
    replay: Annotated[
        Path | None, typer.Option(help="A found.csv: draw its prompts with every variant, and search nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for findings and pictures.")] = None,
    budget: Annotated[str, typer.Option(help="quick, paper, or seconds for each attack on each concept.")] = "quick",
    pictures: Annotated[int, typer.Option(help="Pictures of an attempt. 0: draw none, losses alone tell.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Attack the unedited model, too: what can the attack do?")
    ] = True,
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
    device: Device = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run at --out.")] = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Try to bring back what an edit erased.

    Every concept is attacked on its own, against the model as it was edited. Prints how often the concept came back,
    with 95 % intervals, and what that took. Start it again with the same --out to go on where it stopped.

    Example: editkit attack church-rece.safetensors --attack prompt,embedding,seed-search --out attacks/
    """
    from editkit.redteam.attack import attack as attacked
    from editkit.variants.named import behind_gate, behind_guard
    from editkit_cli.show import print_json
    from editkit_cli.show_attacks import show_findings

    findings = attacked(
        behind_guard(behind_gate(variants, gate), guard),
        concept or (),
        [name.strip() for name in attack.split(",") if name.strip()],
        model,
        suite=suite,
        split=split,
        prompts=prompts,
        detector=detector,
        replay=replay,
        out=out,
        budget=budget,
        pictures=pictures,
        seed=seed,
        control=control,
        device=device,
        force=force,
        profile=profile,
        settings=sampling_settings(steps, guidance, scheduler, negative, size, batch, true_cfg, compile),
        **given,
    )
    if json:
        print_json(findings.as_dict() | {"attempts": [attempt.as_dict() for attempt in findings.attempts]})
    else:
        show_findings(findings, out)


def harden(
    context: typer.Context,
    edit: Annotated[Path, typer.Argument(help="An edit file that `editkit erase` made.")],
    out: Annotated[Path, typer.Option(help="Edit file to write.")],
    preset: Preset = None,
    goal: Annotated[float, typer.Option(help="Stop when the upper limit of a fresh attack's success is below.")] = 0.1,
    rounds: Annotated[int, typer.Option(help="The most rounds. Ctrl-C ends it before, with the best edit so far.")] = 5,
    most_damage: Annotated[float, typer.Option(help="The most damage that the worst protected word may take.")] = 0.2,
    per_round: Annotated[int, typer.Option(help="Prompts a concept that are added in a round.")] = 12,
    pictures: Annotated[int, typer.Option(help="Pictures of each found prompt; 0 draws none.")] = 4,
    below: Annotated[float, typer.Option(help="Without pictures, the loss from which a prompt counts.")] = 0.4,
    searches: Annotated[int, typer.Option(help="Searches a round, each with a seed of its own.")] = 3,
    weight: Annotated[float, typer.Option(help="Of the found prompts of a concept, against its own rows.")] = 1.0,
    give_up: Annotated[
        list[str] | None, typer.Option(help="A protected word that brings a concept back. Repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
    vocabulary: Vocabulary = None,
    prior: Prior = None,
    detector: Annotated[str | None, typer.Option(help="Who looks at the pictures.")] = None,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Attack an edit, erase what brought its concepts back, solve again, and attack afresh.

    Prints a line a round. What certifies the result must be another attack: editkit attack OUT --attack unlearndiff,p4d

    Example: editkit harden church-rece.safetensors --goal 0.1 --rounds 5 --out church-hard.safetensors
    """
    from editkit.erasure.words import read_vocabulary
    from editkit.model.editable import open_model
    from editkit.redteam.harden import harden as hardened
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record
    from editkit_cli.show_attacks import show_round

    said = {
        "goal": goal, "rounds": rounds, "most_damage": most_damage, "per_round": per_round, "pictures": pictures,
        "below": below, "searches": searches, "weight": weight, "give_up": give_up or (), "seed": seed,
    } | _of_preset(preset, context)  # fmt: skip
    check_free_for_edit(out, force)
    opened = open_model(model, profile=profile)
    made = hardened(
        edit, opened, vocabulary=read_vocabulary(opened, vocabulary), prior=prior, detector=detector, device=device,
        tell=show_round, **said,
    )  # fmt: skip
    save_edit(made, out, force)
    show_record(made.record, out, json)


def _of_preset(preset: str | None, context: typer.Context) -> dict[str, Any]:
    """What a preset says of hardening and nobody typed."""
    from editkit.erasure.presets.preset_file import load_preset

    if preset is None:
        return {}
    chosen = load_preset(preset)
    if not chosen.harden:
        print(f"preset {chosen.name}: says nothing of harden; its defaults are taken", file=sys.stderr)
    sources = {name: context.get_parameter_source(name) for name in chosen.harden}
    untyped = {name for name, source in sources.items() if source is None or source.name != "COMMANDLINE"}
    return {name: value for name, value in chosen.harden.items() if name in untyped}
