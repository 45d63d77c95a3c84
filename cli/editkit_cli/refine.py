"""`editkit refine`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit_cli.attributes import Attributes, AttributesFile, Ratios, attributes_of
from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.invert import show_told
from editkit_cli.options import Components, flags, group
from editkit_cli.pictures import Device

Plan = Annotated[
    bool, typer.Option("--plan", help="Print the planned memory and stop; with --device cuda, no GPU is needed.")
]
KEY = ("key_tokens", "rho", "key_rate")
"""Options of what has a key."""


def run_of(keyed: bool) -> Callable[[], Components]:
    """What a gradient stage with or without a key, and its searches, can be told."""

    def components() -> Components:
        from editkit.inverting.round_options import STEREO, RoundOptions
        from editkit.tuning.options import known_options

        chosen = [name for name, known in group("objectives")().items() if known.has_key == keyed]
        run = {"": known_options(chosen), **group("searches")()}
        return run if keyed else {**run, f"--objective {STEREO}": RoundOptions}

    return components


@flags(run_of(keyed=False), less=KEY)
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
    attribute: Attributes = None,
    attributes_file: AttributesFile = None,
    ratios: Ratios = None,
    picture: Annotated[
        list[Path] | None, typer.Option(help="A file of `editkit invert`: what its pictures show. Repeat for more.")
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            help="mace and fmn: folder of pictures of a concept. One for each. Default: the model draws them."
        ),
    ] = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option(
            help="mace: folder of masks, named as --pictures: black is the concept. Default: by the model's attention."
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="What the student learns, see `editkit objectives`. Default: ap.")
    ] = None,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="The same as --objective ap.")] = False,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="Words to search, one a line, or `tokens`. Default: the model's own, else common words."),
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="One that accelerate knows, such as `tensorboard`.")] = None,
    plan: Plan = False,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Train a model away from concepts by gradient steps, from scratch or from an edit."""
    from editkit.concepts.templates import check_concepts
    from editkit.erasure.words import read_vocabulary
    from editkit.files.names import file_stem
    from editkit.inverting.round_options import rounds_of
    from editkit.inverting.stereo import stereo
    from editkit.model.editable import open_model
    from editkit.tuning.masks import read_shown
    from editkit.tuning.options import RefineOptions, chosen_objective
    from editkit.tuning.refine import refine as train
    from editkit.tuning.trainable import check_trainable
    from editkit.variants.edit_file import load_edit
    from editkit.variants.here import edits_here
    from editkit.variants.learned_file import load_learned
    from editkit_cli.show import show_plan, show_record

    opened = open_model(model, profile=profile)
    check_trainable(opened.source)
    chosen = chosen_objective(objective, adversarial)
    rounds, given = rounds_of(chosen, given)
    options = RefineOptions.of(chosen, opened.profile, **given)
    words = read_vocabulary(opened, vocabulary)
    named, shares = attributes_of(attribute, attributes_file, ratios)
    learned = [load_learned(file) for file in picture or ()]
    if start is None and not concept and not learned:
        start = edits_here(opened, linear=True)[0][0]
        print(f"starting from {start}, the newest edit here", file=sys.stderr)
    begin = load_edit(start) if start else None
    concepts = concept or (list(begin.record["concepts"]) if begin and not learned else [])
    every = [*concepts, *(each.word for each in learned if each.word not in concepts)]
    if not plan:
        check_concepts(every)
    tokens = {each.word: len(each.restarts) for each in learned}
    phrases = [(concept in concepts) + tokens.get(concept, 0) for concept in every] or [1]
    show_plan(opened.source, options, device, phrases, rounds)
    if plan:
        return
    out = out or Path(f"{file_stem(every)}-{options.objective}")
    run = train if rounds is None else partial(stereo, rounds=rounds, tell=show_told)
    made = run(
        opened, out, concepts, begin, guide or (), options, words, device, resume, force, tracker, named, shares,
        learned, read_shown(pictures or (), masks or ()),
    )  # fmt: skip
    show_record(made.record, out, json)
