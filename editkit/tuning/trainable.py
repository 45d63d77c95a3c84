"""Which models a gradient stage can train."""

from __future__ import annotations

from editkit.drawing.pipelines import check_drawable
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.families.table import by_name

FAMILIES = ("sd1", "sd2")
"""Families whose prompts are rows of text and nothing else, as the stage reads them."""


def check_trainable(source: Source) -> None:
    """Refuse a model that no gradient stage trains, from its configuration, before a weight is read.

    Raises:
        EditkitError: another family, a single file that is not whole, or a UNet that reads a picture beside the
            latents.
    """
    if source.family.name not in FAMILIES:
        known = ", ".join(by_name(name).title for name in FAMILIES)
        raise EditkitError(
            f"model {source.name}: is {source.family.title}; trained by gradient steps are {known}; edit this one in "
            "closed form with `editkit erase`"
        )
    check_drawable(source)
