"""What works with which model family, for listings: neither torch nor diffusers is imported to say it.

`kinds()` of `editkit.drawing.pipelines`, `Format.suits` and this file say the same; a test holds them together, and
runs every command that is promised.
"""

from __future__ import annotations

from dataclasses import dataclass

from editkit.model.families.family import Family
from editkit.model.families.table import families, is_encoded
from editkit.plugins import loadable_foreign, names

DRAWN = (
    "sd1", "sd2", "sdxl", "sd3", "flux1", "flux2", "chroma", "auraflow", "cogview4", "pixart", "sana", "qwenimage",
    "lumina2",
)  # fmt: skip
"""Families that `generate`, `compare` and `evaluate` draw."""
TRAINED = ("sd1", "sd2", "sdxl", "sd3", "flux1")
"""Families whose objectives, exports and groups of weights are tested against independent references."""

LEARNED = ("sd1", "sd2", "sdxl")
"""Families all of whose text encoders are CLIP's: what textual inversion is defined for."""


@dataclass(frozen=True)
class Support:
    """One family.

    Attributes:
        family: its short name.
        erase: whether prompts are encoded, so that `erase` and `edit` work on its checkpoints.
        draw: whether `generate`, `compare` and `evaluate` draw it.
        refine: whether a gradient stage trains it.
        invert: whether tokens are learned from pictures, which `erase` and `refine` then take.
        formats: what `export` writes of it.
    """

    family: str
    title: str
    erase: bool
    draw: bool
    refine: bool
    invert: bool
    formats: tuple[str, ...]


def support() -> list[Support]:
    """Every known family.

    >>> {row.family: row.draw for row in support()}["wan"]
    False
    """
    kinds, formats = loadable_foreign("pipelines"), loadable_foreign("formats")
    drawn = {*DRAWN, *(family for kind in kinds.values() for family in kind.families)}

    def suits(name: str, family: Family) -> bool:
        return formats[name].suits(family) if name in formats else _suits(name, family)

    return [
        Support(
            family.name,
            family.title,
            is_encoded(family),
            family.name in drawn,
            family.name in TRAINED,
            family.name in LEARNED,
            tuple(name for name in names("formats") if is_encoded(family) and suits(name, family)),
        )
        for family in families()
    ]


def _suits(name: str, family: Family) -> bool:
    """Whether one of editkit's own formats is loaded of that family."""
    if name == "kohya":
        return family.component == "unet" or family.name in ("sd3", "flux1")
    if name == "single-file":
        return family.component == "unet"
    if name == "text-encoder":
        return family.name in TRAINED
    return name != "lora" or family.name != "pixart"
