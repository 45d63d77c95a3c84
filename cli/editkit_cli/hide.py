"""`editkit hide` and `recover`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.options import Components, flags
from editkit_cli.pictures import Device, Guidance, Seeds
from editkit_cli.refine import KEY, Plan, run_of

KeySeed = Annotated[int | None, typer.Option(help="Where the key starts. Default: drawn, and kept in the key file.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside the key.")]


def of_a_search() -> Components:
    """What the search for a key can be told: `recover` has flags of its own for how it draws."""
    from editkit.tuning.options import known_options

    known = known_options(("recover", "recover-pictures"))
    return {"": tuple(option for option in known if option.name in (*KEY, "batch", "seed"))}


@flags(run_of(keyed=True), less=("objective", "recipe", "eta", "preview_every"))
def hide(
    out: Annotated[Path, typer.Option(help="Folder to release: the weights, and nothing of the key.")],
    key: Annotated[Path, typer.Option(help="Key file to write, outside --out.")],
    start: Annotated[Path | None, typer.Argument(help="An edit to start from. Default: the unedited model.")] = None,
    concept: Annotated[list[str] | None, typer.Option(help="What to hide. Repeat for more. Default: EDIT's.")] = None,
    guide: Annotated[
        list[str] | None, typer.Option(help="What it becomes without the key: a text, '' (default) or `nearest`.")
    ] = None,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Preserve the concepts that suffer most, as `refine` does.")
    ] = False,
    vocabulary: Annotated[
        str | None, typer.Option(help="--adversarial: words to search, one a line, or `tokens`.")
    ] = None,
    key_seed: KeySeed = None,
    plan: Plan = False,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Resume = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Train a model to draw a concept with a key alone."""
    from editkit.concepts.templates import check_concepts
    from editkit.erasure.words import read_vocabulary
    from editkit.model.editable import open_model
    from editkit.tuning.hide import hide as train
    from editkit.tuning.options import RefineOptions
    from editkit.tuning.trainable import check_trainable
    from editkit.variants.edit_file import load_edit
    from editkit_cli.show import show_plan, show_record

    opened = open_model(model, profile=profile)
    check_trainable(opened.source)
    options = RefineOptions.of("hide-ap" if adversarial else "hide", opened.profile, **given)
    begin = load_edit(start) if start else None
    concepts = concept or (list(begin.record["concepts"]) if begin else [])
    if not plan:
        check_concepts(concepts)
    show_plan(opened.source, options, device, [1] * max(1, len(concepts)))
    if plan:
        return
    words = read_vocabulary(opened, vocabulary)
    released, _ = train(opened, out, key, concepts, begin, guide or (), options, words, key_seed, device, resume, force)
    show_record(released.record, out, json)
    if not json:
        print(f"key: {key}, to be kept apart from {out}")


@flags(of_a_search)
def recover(
    released: Annotated[Path, typer.Argument(help="What `editkit hide` wrote; with --learn, any result of `refine`.")],
    key: Annotated[
        str, typer.Option(help="Its key; `random` or `random:SEED` with --force. With --learn, the key file to write.")
    ],
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt. Repeat for more.")] = None,
    out: Annotated[Path | None, typer.Option(help="Picture file. Default: PROMPT.png.")] = None,
    seeds: Seeds = "0-3",
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance: Guidance = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Search for a key, given the original model; write it to --key.")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="--learn: folder of pictures of the concept, in place of the original model.")
    ] = None,
    learn_steps: Annotated[int | None, typer.Option(help="--learn: steps. Default: 1000.")] = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="--learn: what to recover. Default: what is hidden.")
    ] = None,
    key_seed: KeySeed = None,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Resume = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing file, and draw with a wrong key, to measure it.")
    ] = False,
    **given: Any,
) -> None:
    """Draw what is hidden, with its key; or, with --learn, search for a key."""
    from editkit.drawing.pipelines import check_drawable
    from editkit.drawing.recover import recover as draw
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.tuning.hide import learn_key
    from editkit.tuning.options import RefineOptions
    from editkit.tuning.pictures import read_pictures
    from editkit.variants.named import read_release

    if not learn and not prompt:
        raise typer.BadParameter("give --prompt, or --learn")
    out = out or (Path(f"{file_stem(prompt)}.png") if prompt else None)
    opened = open_model(model, profile=profile)
    check_drawable(opened.source)
    weights = read_release(released, opened)
    if learn:
        options = RefineOptions.of("recover", opened.profile, steps=learn_steps, **given)
        shown = read_pictures(pictures) if pictures else ()
        learnt = learn_key(opened, weights, key, concept or (), shown, options, key_seed, device, resume, force)
        print(f"key: {key}, opens {', '.join(learnt.concepts)} of {released}")
    if prompt and out is not None:
        draw(opened, weights, key, prompt, out, seeds, device, force, steps=steps, guidance=guidance)
        print(f"picture: {out}")
