"""What works with which model family: read off the rooms that do it, so that no list can be out of date."""

from __future__ import annotations

from dataclasses import dataclass

from editkit.drawing.pipelines import kinds
from editkit.model.families.table import families, is_encoded
from editkit.plugins import loadable
from editkit.tuning.trainable import FAMILIES as TRAINED


@dataclass(frozen=True)
class Support:
    """One family.

    Attributes:
        family: its short name.
        erase: whether prompts are encoded, so that `erase` and `edit` work on its checkpoints.
        draw: whether `generate`, `compare` and `evaluate` draw it.
        refine: whether a gradient stage trains it.
        formats: what `export` writes of it.
    """

    family: str
    title: str
    erase: bool
    draw: bool
    refine: bool
    formats: tuple[str, ...]


def support() -> list[Support]:
    """Every known family.

    >>> {row.family: row.draw for row in support()}["wan"]
    False
    """
    drawn = {name for kind in kinds() for name in kind.families}
    formats = loadable("formats")
    return [
        Support(
            family.name,
            family.title,
            is_encoded(family),
            family.name in drawn,
            family.name in TRAINED,
            tuple(name for name, kind in formats.items() if is_encoded(family) and kind.suits(family)),
        )
        for family in families()
    ]
