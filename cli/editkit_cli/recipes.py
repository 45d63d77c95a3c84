"""`editkit run` and `recipes`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from editkit_cli.edits import Json
from editkit_cli.pictures import Device


def run(
    recipe: Annotated[str, typer.Argument(help="A name from `editkit recipes`, or a .toml file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of everything that it makes. Default: runs/NAME.")] = None,
    on: Annotated[
        str, typer.Option(help="A table [on.NAME] of the recipe that changes it for another model: --on emoji.")
    ] = "",
    model: Annotated[str | None, typer.Option(help="In place of the recipe's model.")] = None,
    shard: Annotated[
        str,
        typer.Option(help="i/n, i from 0: one of n processes that share the folder and take what no other works on."),
    ] = "0/1",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, with its time and memory, and stop.")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Do what of a recipe is not done yet: erase, harden, refine, attack, evaluate, compare, export, card.

    Everything is checked before anything starts. Start it again with the same --out to go on where it stopped; a
    changed value runs again what depends on it.

    Example: editkit run papers --out runs/papers
    """
    from editkit.chaining.opened import RUN, open_run
    from editkit.chaining.run import run as run_recipe
    from editkit_cli.show_recipes import show_plan, show_run

    if dry_run:
        planned = open_run(recipe, out, on, model, device)
        planned.check()
        show_plan(planned, json)
        return
    made = run_recipe(recipe, out, on, model, device, _shard(shard), lambda text: print(text, file=sys.stderr))
    if json:
        print((made.folder / RUN).read_text(encoding="utf-8"), end="")
    else:
        show_run(made)


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise typer.BadParameter(f"--shard: expected i/n with i from 0 to n - 1, such as 0/4, got {text!r}")
    return int(part), int(parts)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print the file of this one.")] = None, json: Json = False
) -> None:
    """List the recipes that `run` knows by name, or print one."""
    from editkit.chaining.recipe import load_recipe
    from editkit.chaining.recipe import recipes as known_recipes
    from editkit_cli.show import print_json
    from editkit_cli.show_recipes import recipe_record, show_recipes

    if name is not None:
        print(load_recipe(name).text, end="")
    elif json:
        print_json([recipe_record(recipe) for recipe in known_recipes()])
    else:
        show_recipes(known_recipes())
