"""Kinds of pipelines that can be drawn with, one file each, and the choice of a model's."""

from __future__ import annotations

import os
from typing import Any

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.errors import EditkitError
from editkit.model.apply import family_of_pipeline
from editkit.model.checkpoints.source import Source, find
from editkit.model.families.table import Family, by_name
from editkit.model.pipeline import PARTS, load
from editkit.model.placement import Placement
from editkit.plugins import loadable


def kinds() -> list[type[Denoiser]]:
    """Every kind of `editkit pipelines`."""
    return list(loadable("pipelines").values())


def open_denoiser(
    model: str | os.PathLike[str] | Source | None = None, device: str = "cpu", placement: Placement | None = None
) -> Denoiser:
    """Load a model to draw with.

    Args:
        model: what `editkit.model.checkpoints.source.find` takes.
        device: `cpu`, `cuda`, `cuda:1`, ...
        placement: how it lies in memory; without, in float32.

    Raises:
        EditkitError: as `check_drawable`; or a weight cannot be read, or there is no such device.
    """
    source = find(model)
    kind = check_drawable(source)
    return kind.open(source, device, placement or Placement())


def open_reader(source: Source) -> Denoiser:
    """A folder's text encoders alone, in float32 on the processor: it encodes prompts, as `Denoiser.reader` does.

    Raises:
        EditkitError: as `open_denoiser`; or prompts go through a part of the network, too.
    """
    kind = check_drawable(source)
    if any(rule.before for rule in source.family.rules):
        raise EditkitError(
            f"model {source.name}: {source.family.title} encodes prompts with a part of its network, which is not "
            "trained with its text encoders"
        )
    return kind(load(source, without=[name for name in PARTS if name in source.components and "encoder" not in name]))


def denoiser_of(pipe: Any) -> Denoiser:
    """A loaded pipeline of diffusers, to draw with.

    Raises:
        EditkitError: no kind draws its family.
    """
    family = family_of_pipeline(pipe)
    return _kind_of(family, type(pipe).__name__)(pipe)


def check_drawable(source: Source) -> type[Denoiser]:
    """The kind of the model, before anything of it is loaded.

    Raises:
        EditkitError: nothing here draws it: a single file that is not whole, a family without a kind, or a model that
            draws over a picture.
    """
    kind = _kind_of(source.family, f"model {source.name}")
    kind.check(source)
    return kind


def _kind_of(family: Family, what: str) -> type[Denoiser]:
    known = kinds()
    kind = next((kind for kind in known if family.name in kind.families), None)
    if kind is None:
        drawn = ", ".join(by_name(name).title for other in known for name in other.families)
        raise EditkitError(
            f"{what}: is {family.title}, which is edited here but not drawn (drawn are {drawn}); write the edited "
            "model with `editkit export --format diffusers` and draw with that folder in diffusers"
        )
    return kind
