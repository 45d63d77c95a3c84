"""`editkit debias`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.plugins import load
from editkit_cli.attributes import Attributes, AttributesFile, Ratios, attributes_of, numbers
from editkit_cli.edits import (
    ConceptsColumn,
    ConceptsFile,
    Force,
    Json,
    Model,
    Preserve,
    Profile,
    Vocabulary,
    concepts_of,
)
from editkit_cli.evaluate import Weights, places
from editkit_cli.options import flags
from editkit_cli.pictures import Batch, Device, Guidance, Negative, Scheduler, Size, Steps, sampling_settings

if TYPE_CHECKING:
    from editkit.balancing.loop import Round

NONLINEAR = ("technique", "hard", "hard_directions", "floor_weight", "perturb", "perturb_scale", "expand", "rounds")
"""Options of uce that an edit with weights has no place for; its `rounds` are those of minimax, not of the loop."""


@flags(lambda: {"uce": load("methods", "uce")}, less=NONLINEAR)
def debias(
    out: Annotated[Path, typer.Option(help="Edit file to write.")],
    concept: Annotated[list[str] | None, typer.Option(help="What to balance. Repeat for more.")] = None,
    concepts_file: ConceptsFile = None,
    concepts_column: ConceptsColumn = None,
    attribute: Attributes = None,
    attributes_file: AttributesFile = None,
    ratios: Ratios = None,
    loop: Annotated[
        str, typer.Option(help="secant, or published: UCE's own, without protection, for comparison.")
    ] = "secant",
    template: Annotated[str, typer.Option(help="The prompt that is drawn and counted.")] = "a {}",
    max_diff: Annotated[
        float, typer.Option(help="How far a share's whole interval may reach from what is wanted.")
    ] = 0.05,
    pictures: Annotated[
        str, typer.Option(help="Pictures of a concept in a round: more as its shares come nearer.")
    ] = "16,64,400,1600",
    certify: Annotated[int, typer.Option(help="Fresh pictures of each concept that certify the result.")] = 1600,
    rounds: Annotated[int, typer.Option(help="The most rounds.")] = 16,
    most_damage: Annotated[float, typer.Option(help="The most damage that the worst protected word may take.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the first picture.")] = 0,
    preserve: Preserve = None,
    vocabulary: Vocabulary = None,
    detector: Annotated[str | None, typer.Option(help="Who looks at the pictures.")] = None,
    weights: Weights = None,
    model: Model = None,
    profile: Profile = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Balance what concepts show: draw, count, step, and certify by fresh pictures.

    Prints a line a round, then every share before and after with its 95 % interval. What was counted is remembered in
    OUT.rounds.jsonl: after Ctrl-C, start it again to go on.

    Example: editkit debias --concept cook --attribute man --attribute woman --out fair.safetensors
    """
    from editkit.balancing.debias import debias as debiased
    from editkit.edits.method import Options
    from editkit.erasure.words import read_vocabulary
    from editkit.model.editable import open_model
    from editkit.variants.edit_file import check_free_for_edit, save_edit
    from editkit_cli.show import show_record

    check_free_for_edit(out, force)
    asked, shares = attributes_of(attribute, attributes_file, ratios)
    opened = open_model(model, profile=profile)
    options = Options("uce", **given) if given or loop != "published" else None
    with _told_how_to_go_on(kept := out.with_name(f"{out.stem}.rounds.jsonl")):
        made = debiased(
            opened, concepts_of(concept, concepts_file, concepts_column), asked, shares, options, loop, template,
            max_diff, numbers("--pictures", pictures, int), certify, rounds, most_damage, seed, preserve or (),
            read_vocabulary(opened, vocabulary), detector, places(weights or []), kept, device, None, show_balance,
            **sampling_settings(steps, guidance, scheduler, negative, size, batch, None, False),
        )  # fmt: skip
    save_edit(made, out, force)
    show_record(made.record, out, json)


def show_balance(done: Round) -> None:
    """A line on the error stream, where it does not disturb `--json`."""
    apart = sorted(done.misses.items(), key=lambda item: -item[1])
    worst = ", ".join(f"{concept} {100 * missed:.0f}" for concept, missed in apart[:3])
    count = sum(tally.judged for tally in done.tallies.values())
    print(
        f"round {done.number}: {len(done.tallies)} concepts, {count} pictures; points from what is wanted: {worst}"
        f"{', ...' if apart[3:] else ''}; damage of the worst word {done.damage:.4f}; {done.seconds:.0f} s",
        file=sys.stderr,
    )


@contextmanager
def _told_how_to_go_on(kept: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"what was counted is in {kept}; start again to go on", file=sys.stderr)
        raise
