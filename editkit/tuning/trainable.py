"""Which models a gradient stage can train."""

from __future__ import annotations

from editkit.drawing.pipelines import check_drawable
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.families.support import TRAINED
from editkit.model.families.table import by_name


def check_trainable(source: Source) -> None:
    """Refuse a model that no gradient stage trains, from its configuration, before a weight is read.

    Raises:
        EditkitError: another family, a single file that is not whole, or a model that draws over a
            picture.
    """
    if source.family.name not in TRAINED:
        known = ", ".join(by_name(name).title for name in TRAINED)
        raise EditkitError(
            f"model {source.name}: is {source.family.title}; trained by gradient steps are {known}; edit this one in "
            "closed form with `editkit erase`"
        )
    check_drawable(source)


def check_precision(source: Source, precision: str | None) -> None:
    """Refuse half precision that does not hold the values of a network.

    Raises:
        EditkitError: float16 for a transformer.
    """
    if precision == "fp16" and source.family.component != "unet":
        raise EditkitError(
            f"--mixed-precision fp16: values of {source.family.title} are too large for it; use bf16 or no"
        )
