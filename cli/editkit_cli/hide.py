"""`editkit hide` and `recover`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.pictures import Device, Guidance, Seeds
from editkit_cli.refine import Plan, Refresh

Tokens = Annotated[int | None, typer.Option(help="Rows of the key for each concept. Default: 10.")]
Rho = Annotated[
    float | None, typer.Option(help="How far each row may be from the concept's own, as a part of its norm.")
]
KeyRate = Annotated[float | None, typer.Option(help="Adam's learning rate of the key.")]
KeySeed = Annotated[int | None, typer.Option(help="Where the key starts. Default: drawn, and kept in the key file.")]
Batch = Annotated[int | None, typer.Option(help="Points of a step, of all processes together.")]
Seed = Annotated[int | None, typer.Option(help="Of all other randomness.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside the key.")]


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
    search: Annotated[str | None, typer.Option(help="--adversarial: `gumbel`, `exact` or `closed-form`.")] = None,
    param: Annotated[str | None, typer.Option(help="What is trained, as of `refine`. Default: `xattn`.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps. Default: 1000.")] = None,
    batch: Batch = None,
    rate: Annotated[float | None, typer.Option(help="Adam's learning rate of the weights.")] = None,
    lamb: Annotated[float | None, typer.Option(help="Weight λ of the term with the key.")] = None,
    tokens: Tokens = None,
    rho: Rho = None,
    key_rate: KeyRate = None,
    key_seed: KeySeed = None,
    refresh: Refresh = None,
    mixed_precision: Annotated[str | None, typer.Option(help="`no`, `bf16` or `fp16`. Default: what is fast.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a batch is cut into, to save memory.")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Save memory.")] = False,
    seed: Seed = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    plan: Plan = False,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Resume = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a model to draw a concept with a key alone."""
    from editkit.model.editable import open_model
    from editkit.tuning.candidates import read_vocabulary
    from editkit.tuning.hide import hide as train
    from editkit.tuning.options import defaults
    from editkit.variants.edit_file import load_edit
    from editkit_cli.show import show_plan, show_record

    opened = open_model(model, profile=profile)
    options = defaults(
        "hide-ap" if adversarial else "hide",
        opened.source,
        param=param,
        search=search,
        steps=steps,
        batch=batch,
        rate=rate,
        lamb=lamb,
        key_tokens=tokens,
        rho=rho,
        key_rate=key_rate,
        refresh=refresh,
        mixed_precision=mixed_precision,
        accumulate=accumulate,
        gradient_checkpointing=gradient_checkpointing or None,
        seed=seed,
        save_every=save_every,
    )
    begin = load_edit(start) if start else None
    show_plan(opened.source, options, device, len(concept or (begin.record["concepts"] if begin else [""])))
    if plan:
        return
    words = read_vocabulary(opened, vocabulary)
    hidden, guides = concept or (), guide or ()
    released, _ = train(opened, out, key, hidden, begin, guides, options, words, key_seed, device, resume, force)
    show_record(released.record, out, json)
    if not json:
        print(f"key: {key}, to be kept apart from {out}")


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
    batch: Batch = None,
    tokens: Tokens = None,
    rho: Rho = None,
    key_rate: KeyRate = None,
    key_seed: KeySeed = None,
    seed: Seed = None,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Resume = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing file, and draw with a wrong key, to measure it.")
    ] = False,
) -> None:
    """Draw what is hidden, with its key; or, with --learn, search for a key."""
    from editkit.drawing.recover import recover_grid
    from editkit.files.names import file_stem
    from editkit.model.editable import open_model
    from editkit.tuning.hide import learn_key
    from editkit.tuning.options import defaults
    from editkit.tuning.pictures import read_pictures
    from editkit.variants.named import read_release, unlock

    if not learn and not prompt:
        raise typer.BadParameter("give --prompt, or --learn")
    out = out or (Path(f"{file_stem(prompt)}.png") if prompt else None)
    opened = open_model(model, profile=profile)
    weights = read_release(released, opened)
    if learn:
        options = defaults(
            "recover",
            opened.source,
            steps=learn_steps,
            batch=batch,
            key_tokens=tokens,
            rho=rho,
            key_rate=key_rate,
            seed=seed,
        )
        shown = read_pictures(pictures) if pictures else ()
        found = learn_key(opened, weights, key, concept or (), shown, options, key_seed, device, resume, force)
        print(f"key: {key}, opens {', '.join(found.concepts)} of {released}")
    if prompt and out is not None:
        unlocked = unlock(weights, key, opened, force)
        recover_grid(opened, unlocked, prompt, seeds, out, device, force, steps=steps, guidance=guidance)
        print(f"picture: {out}")
