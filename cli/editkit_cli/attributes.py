"""What concepts are balanced across, as options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from editkit.concepts.attributes import Attribute

Attributes = Annotated[
    list[str] | None,
    typer.Option(
        "--attribute",
        help="What the judge says of a picture; several at once with commas: man,dark. Repeat for more.",
    ),
]
AttributesFile = Annotated[
    Path | None, typer.Option(help="TOML file of attributes: how a prompt asks for each, what the judge calls it.")
]
Ratios = Annotated[
    str | None, typer.Option(help="The share that is wanted of each attribute, with commas. Default: all alike.")
]


def attributes_of(
    attribute: list[str] | None, attributes_file: Path | None, ratios: str | None
) -> tuple[list[str | Attribute], list[float] | None]:
    """The attributes and their ratios.

    Raises:
        EditkitError: both ways to name them are given, or what is given cannot be read.
    """
    from editkit.concepts.attributes import read_attributes
    from editkit.errors import EditkitError

    if attribute and attributes_file is not None:
        raise EditkitError("--attribute and --attributes-file: give one of them")
    named: list[str | Attribute] = [*(attribute or [])]
    if attributes_file is not None:
        named += read_attributes(attributes_file)
    return named, None if ratios is None else numbers("--ratios", ratios, float)


def numbers(flag: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers with commas between them."""
    from editkit.errors import EditkitError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise EditkitError(f"{flag} {text}: expected numbers with commas between them") from error
