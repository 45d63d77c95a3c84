"""A recipe file: which stages there are, what each is made of, and which published figures stand beside the measured.

    title, about, source   what it is, in words; `about` is one sentence
    model, profile, device as for every command; --model and --device win over them
    minutes                what it takes on two processor cores with the model of `--on`, measured
    [stage.NAME]           `do` names the kind of stage (`editkit stages`), the rest is what it says; a value that
                           names another stage is what that made; `launch` runs it under another program
    [matrix]               word = [texts]: stages that say {word} are made for each, see `editkit.chaining.matrix`
    [[published]]          stage, variant, metric, value (rates in per cent) and source
    [on.NAME]              what another model changes: the same keys again, merged table by table; a list `without` in
                           one of these names keys that go

A value that may not be a list and is one makes a variant of the stage for each entry, and with it of all stages that
take what it made. Paths are relative to the file.

>>> recipe = parse_recipe('''
... title = "Two ways to lose a church"
... [stage.erased]
... do = "erase"
... concepts = ["church"]
... method = ["uce", "rece"]
... [stage.seen]
... do = "compare"
... edits = ["base", "erased"]
... ''', Path("church.toml"))
>>> list(recipe.stages), recipe.stages["erased"]["method"]
(['erased', 'seen'], ['uce', 'rece'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.chaining.matrix import repeated
from editkit.errors import EditkitError, did_you_mean
from editkit.files.text.decoding import decode_text
from editkit.files.text.toml import file_of, parse_toml, read_content, shipped_names

SHIPPED = "editkit.chaining.shipped"
REMEDY = "; `editkit recipes papers` prints one to begin with"
TEXTS = ("title", "about", "source", "model", "profile", "device")
WITHOUT = "without"
TOP = (*TEXTS, "minutes", "matrix", "stage", "published", "on")
PUBLISHED: Mapping[str, type | tuple[type, ...]] = {
    "stage": str, "variant": str, "metric": str, "value": (int, float), "source": str,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A figure of a paper, in per cent where it is a rate, and what was measured that it stands beside."""

    stage: str
    variant: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Recipe:
    """The contents of a recipe file.

    Attributes:
        path: of the file; paths in it are relative to its folder.
        text: of the file, as it is kept beside the results.
        on: which of its `[on.NAME]` tables was merged; empty: none.
    """

    path: Path
    text: str = field(repr=False)
    title: str
    stages: Mapping[str, Mapping[str, Any]]
    about: str = ""
    source: str = ""
    model: str | None = None
    profile: str | None = None
    device: str | None = None
    minutes: float | None = None
    published: tuple[Published, ...] = ()
    on: str = ""


def recipe_names() -> list[str]:
    """The recipes that editkit has."""
    return shipped_names(SHIPPED)


def recipes() -> list[Recipe]:
    """The recipes that `run` knows by name.

    >>> "papers" in [recipe.path.stem for recipe in recipes()]
    True
    """
    return [load_recipe(name) for name in recipe_names()]


def load_recipe(name: str | Path, on: str = "") -> Recipe:
    """A recipe by name, or from a `.toml` file.

    Args:
        on: the table `[on.NAME]` that changes it for another model.

    Raises:
        EditkitError: there is none, it is no TOML, or it does not say what a recipe must.
    """
    path = file_of(SHIPPED, name, "recipe")
    content = read_content(path, "recipe")
    if not content.strip():
        raise EditkitError(f"recipe {path}: is empty{REMEDY}")
    return parse_recipe(decode_text(path, content), path, on)


def parse_recipe(text: str, path: Path, on: str = "") -> Recipe:
    """The same from the text of the file.

    Raises:
        EditkitError: as `load_recipe`.
    """
    raw = parse_toml(text, path, "recipe", REMEDY)
    others = raw.pop("on", {})
    if on:
        raw = _merged(path, raw, _chosen(path, others, on), f"on.{on}.")
    for key in raw:
        _check_key(path, key, TOP, "")
    title = raw.get("title", path.stem)
    stages = raw.get("stage")
    if not isinstance(stages, dict) or not stages or not all(isinstance(each, dict) for each in stages.values()):
        raise EditkitError(f"recipe {path}: expected tables [stage.NAME], found none; each is a stage with a `do`")
    for key in TEXTS:
        if not isinstance(raw.get(key, ""), str):
            raise EditkitError(f"recipe {path}: {key}: expected a text, got {raw[key]!r}")
    matrix = raw.get("matrix", {})
    try:
        if not isinstance(matrix, dict):
            raise EditkitError(f"matrix: expected a table [matrix], got {matrix!r}")
        stages = repeated(stages, matrix)
    except EditkitError as error:
        raise EditkitError(f"recipe {path}: {error}") from error
    minutes = raw.get("minutes")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float)):
        raise EditkitError(f"recipe {path}: minutes: expected a number, got {minutes!r}")
    words = {key: raw[key] for key in TEXTS if key in raw and key != "title"}
    published = tuple(_published(path, each) for each in raw.get("published", []))
    return Recipe(path, text, title, stages, minutes=minutes, published=published, on=on, **words)


def _chosen(path: Path, others: Mapping[str, Any], on: str) -> Mapping[str, Any]:
    if on not in others:
        known = ", ".join(others) or "none"
        raise EditkitError(f"recipe {path}: --on {on}: expected a table [on.{on}], the file has {known}")
    return others[on]


def _merged(path: Path, below: Mapping[str, Any], above: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`above` over `below`, table by table; keys of `below` that `above` lists under `without` go."""
    above = dict(above)
    gone = above.pop(WITHOUT, [])
    for key in gone:
        _check_key(path, key, tuple(below), f"{where}{WITHOUT}: ")
    merged = {key: value for key, value in below.items() if key not in gone}
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(path, merged[key], value, f"{where}{key}.") if both else value
    return merged


def _check_key(path: Path, key: str, known: tuple[str, ...], where: str) -> None:
    if key not in known:
        hint = did_you_mean(key, known)
        raise EditkitError(f"recipe {path}: {where}{key}: no such key; {hint}known are {', '.join(known)}")


def _published(path: Path, table: Any) -> Published:
    if not isinstance(table, dict):
        raise EditkitError(f"recipe {path}: published: expected tables [[published]], got {table!r}")
    for key in table:
        _check_key(path, key, tuple(PUBLISHED), "published.")
    for key, kind in PUBLISHED.items():
        if not isinstance(table.get(key), kind):
            wanted = "a text" if kind is str else "a number"
            raise EditkitError(f"recipe {path}: published.{key}: expected {wanted}, got {table.get(key)!r}")
    return Published(**table)
