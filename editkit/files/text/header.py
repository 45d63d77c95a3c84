"""The header of a table or the keys of an object: which column is what."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.text.schema import Layout, Schema, is_position, plain


def header_places(path: Path, names: Sequence[str], schema: Schema, layout: Layout) -> dict[str, int]:
    """Meaning → place, of those columns that are there.

    Raises:
        EditkitError: the user names a column that is not there, or two columns are called the same.
    """
    spelled = [plain(name) for name in names]
    places: dict[str, int] = {}
    for meaning, accepted in schema.columns.items():
        typed = layout.columns.get(meaning)
        if typed is not None and is_position(typed) and plain(typed) not in spelled:
            places[meaning] = place_of(schema, meaning, typed, len(names))
            continue
        wanted = accepted if typed is None else (plain(typed),)
        there = [name for name in wanted if name in spelled]
        if not there:
            continue
        if len(there) > 1 and not schema.ranked:
            remedy = f"say which with {schema.typed(meaning, 'NAME')}" if schema.flag else "keep one of them"
            raise EditkitError(f"{path}: each of its columns {', '.join(there)} may be meant; {remedy}")
        name = there[0]
        if spelled.count(name) > 1:
            raise EditkitError(f"{path}: {spelled.count(name)} columns are called {name!r}; rename all but one of them")
        places[meaning] = spelled.index(name)
    return places


def no_column(
    path: Path, names: Sequence[str], schema: Schema, layout: Layout, shown: str, is_table: bool = True
) -> EditkitError:
    """The error of a file in which nothing says which column is the main one.

    Args:
        shown: how the file begins.
        is_table: no JSON.
    """
    missing = [name for name in layout.columns.values() if plain(name) not in map(plain, names)]
    if missing:
        option = schema.flag or "--columns"
        return EditkitError(f"{path}: {option} names {missing[0]!r}, which is not there; {shown}")
    if schema.required:
        return EditkitError(
            f"{path}: expected the columns {', '.join(schema.required)}; {schema.main} is not there, {shown}"
        )
    accepted = schema.columns[schema.main][:2]
    expected = f"expected a column {' or '.join(map(repr, accepted))}, but {shown}"
    if schema.flag:
        listed = ", ".join(name.strip() or "(unnamed)" for name in names)
        return EditkitError(f"{path}: {expected}; its columns are {listed}: say which with {schema.flag} NAME")
    if not schema.options:
        return EditkitError(f"{path}: {expected}; head that of the {schema.thing}s {accepted[0]!r}, or keep it alone")
    known = schema.columns[schema.main]
    near = next((name for name in names if difflib.get_close_matches(plain(name), known, cutoff=0.8)), "NAME")
    remedy = f"say which it is: --columns {schema.main}={near.strip()}"
    if is_table:
        remedy += (
            f", or its position from 1 where there is no header; --separator none, if every line is a {schema.thing}"
        )
    return EditkitError(f"{path}: {expected}; {remedy}")


def mentions_prompt(name: str) -> bool:
    """Whether a heading could be meant: "sensitive prompt", "prompt_en", "image caption"."""
    words = plain(name).split("_")
    return len(words) < 4 and not {"prompt", "prompts", "caption", "captions"}.isdisjoint(words)


def place_of(schema: Schema, meaning: str, position: str, width: int) -> int:
    if not 1 <= int(position) <= width:
        raise EditkitError(
            f"{schema.typed(meaning, position)}: expected a position from 1 to {width}, the first line's"
        )
    return int(position) - 1
