"""`editkit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Force, Json, Model, Profile
from editkit_cli.pictures import Device, Seeds


def inspect(
    first: Annotated[str, typer.Argument(help="`base`, an edit file, a folder of `refine`, or a model.")],
    second: Annotated[str, typer.Argument(help="What it is compared with.")],
    vocabulary: Annotated[
        Path | None, typer.Option(help="Words, one a line. Default: the model's own, else common words.")
    ] = None,
    concept: Annotated[
        str | None, typer.Option(help="What is known to be changed. Ranks what is sensitive to that, itself apart.")
    ] = None,
    lamb: Annotated[float, typer.Option(help="With --concept: weight λ of the words' own change.")] = 1.0,
    seeds: Seeds = "0-1",
    points: Annotated[int, typer.Option(help="Latents of each seed, from all noise to nearly a picture.")] = 4,
    batch: Annotated[int, typer.Option(help="Rows at a time; it does not change the result.")] = 32,
    top: Annotated[int, typer.Option(help="Words to print.")] = 20,
    out: Annotated[Path | None, typer.Option(help="CSV of all words.")] = None,
    model: Model = None,
    profile: Profile = None,
    device: Device = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Rank words by how differently two models draw them. Nothing is trained."""
    from editkit.concepts.vocabulary import read_word_file
    from editkit.drawing.files import Shard
    from editkit.drawing.prompt_file import parse_seeds
    from editkit.files.atomic import check_free
    from editkit.redteam.inspection import inspect as inspected
    from editkit.redteam.inspection import write_differences
    from editkit_cli.show import show_differences

    if out is not None:
        check_free(out, force)
    words = read_word_file(vocabulary) if vocabulary else None
    numbers = parse_seeds(seeds)
    where = device or Shard.from_environment().device()
    differences = inspected(
        first, second, words, model, concept, lamb, numbers, points, batch, device=where, profile=profile
    )
    show_differences(differences, f"{first} and {second}", top, json)
    if out is not None:
        write_differences(differences, out, force)
        if not json:
            print(f"all {len(differences)} words: {out}")
