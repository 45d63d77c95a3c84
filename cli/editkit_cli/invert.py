"""`editkit invert`, and the pictures that `erase` is given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.options import Components, flags
from editkit_cli.pictures import Device

if TYPE_CHECKING:
    from editkit.embeddings.learned import Learned
    from editkit.inverting.invert import Chosen, Restart
    from editkit.inverting.rounds import Found
    from editkit.model.editable import EditableModel


def _options() -> Components:
    from editkit.inverting.options import InvertOptions

    return {"": InvertOptions}


@flags(_options)
def invert(
    pictures: Annotated[Path, typer.Argument(help="Folder of three to five pictures of one thing, or of one style.")],
    word: Annotated[
        str | None,
        typer.Option(help="What they show, one token; with --masks, what these hide. Default: chosen by the loss."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: WORD.ti.safetensors, else PICTURES.ti.safetensors.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks, named as the pictures: white stays, black is learned apart."),
    ] = None,
    kept: Annotated[
        str | None, typer.Option(help="--masks: one token for what stays. Default: chosen by the loss.")
    ] = None,
    style: Annotated[
        bool | None,
        typer.Option("--style/--thing", help="What they share. Default: what the model says of --word."),
    ] = None,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an inversion to --out was stopped.")] = False,
    force: Force = False,
    json: Json = False,
    **given: Any,
) -> None:
    """Learn a token from pictures: a file for `erase --picture`, diffusers, WebUI and ComfyUI."""
    from editkit.files.names import file_stem
    from editkit.inverting.invert import invert as learn
    from editkit.inverting.options import InvertOptions
    from editkit.options import assign_options
    from editkit_cli.show import print_json

    options = InvertOptions(**assign_options({"invert": InvertOptions}, given)["invert"])
    out = out or Path(f"{file_stem([word or pictures.resolve().name])}.ti.safetensors")
    learned = learn(
        model, pictures, word, out, options, masks, kept, style, device, profile, resume, force, show_told,
    )  # fmt: skip
    if json:
        print_json({"file": str(out), "token": learned.token, "word": learned.word, **learned.record})
        return
    print(f"token: {learned.token}, {len(learned.restarts)} restarts\ninversion: {out}")
    if "stopped" in learned.record:
        print("stopped before its end; the same command with --resume goes on", file=sys.stderr)


def learned_of(
    model: EditableModel,
    files: Sequence[Path],
    pictures: Path | None,
    masks: Path | None,
    word: str | None,
    kept: Sequence[str],
    device: str | None,
    out: Path,
    force: bool,
) -> list[Learned]:
    """What `erase` is given of pictures: inversions, and a folder that is inverted first, to a file beside `out`.

    Raises:
        KeyboardInterrupt: Ctrl-C; called again it goes on.
        EditkitError: masks or a word without pictures, or as `invert`.
    """
    from editkit.errors import EditkitError
    from editkit.inverting.invert import invert as learn
    from editkit.inverting.unfinished import has_begun
    from editkit.variants.learned_file import load_learned

    learned = [load_learned(file, word if pictures is None else None) for file in files]
    if pictures is None:
        if masks is not None:
            raise EditkitError("--masks: are of pictures; give their folder with --pictures")
        if word is not None and not files:
            raise EditkitError("--word: says what pictures show; give them with --pictures or --picture")
        return learned
    file = out.with_name(f"{out.name.removesuffix('.safetensors')}.ti.safetensors")
    stays = kept[0] if kept and masks is not None else None
    made = learn(
        model, pictures, word, file, masks=masks, kept=stays, device=device, resume=has_begun(file) and not force,
        force=force, tell=show_told,
    )  # fmt: skip
    if "stopped" in made.record:
        print("stopped; the same command goes on", file=sys.stderr)
        raise KeyboardInterrupt
    print(f"inversion: {file}", file=sys.stderr)
    return [*learned, made]


def show_told(told: Restart | Chosen | Found) -> None:
    """Which words were chosen, how far one restart came, and what a round found, on the error stream."""
    print(told, file=sys.stderr)
