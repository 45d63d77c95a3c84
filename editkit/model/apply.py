"""Put an edit into a loaded pipeline, and take it out again to the very bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from editkit.edit.edit import Edit
from editkit.errors import EditkitError
from editkit.model.families import family_of
from editkit.model.projections import is_text_projection

Originals = dict[str, Tensor]


@torch.no_grad()
def apply_edit(pipe: Any, edit: Edit) -> Originals:
    """Overwrite the text projections of `pipe` with the edited ones; returns the originals for `revert_edit`.

    Raises:
        EditkitError: the pipeline's family is unknown, or the edit is for another width or other layers.
    """
    weights = _text_projections(pipe)
    edited = edit.weights({name: weight.detach().cpu() for name, weight in weights.items()})
    if edit.maps and not edited:
        raise EditkitError(
            f"the edit is for {', '.join(edit.maps)}, but {type(pipe).__name__} has no such projection; "
            "use the model family that the edit was made for"
        )
    originals = {name: weights[name].detach().clone() for name in edited}
    for name, value in edited.items():
        weights[name].copy_(value)
    return originals


@torch.no_grad()
def revert_edit(pipe: Any, originals: Originals) -> None:
    """Put back what `apply_edit` returned: kept, not recomputed, so bit for bit."""
    weights = dict(denoiser(pipe).named_parameters())
    for name, value in originals.items():
        weights[name].copy_(value)


@contextmanager
def applied(pipe: Any, edit: Edit) -> Iterator[Any]:
    """`with applied(pipe, edit): ...` draws with the edit; afterwards the pipeline is what it was."""
    originals = apply_edit(pipe, edit)
    try:
        yield pipe
    finally:
        revert_edit(pipe, originals)


def denoiser(pipe: Any) -> Any:
    """The UNet or the transformer."""
    return getattr(pipe, "unet", None) or pipe.transformer


def _text_projections(pipe: Any) -> dict[str, Any]:
    model = denoiser(pipe)
    family = family_of(type(pipe).__name__, model.config.get("cross_attention_dim"))
    return {name: weight for name, weight in model.named_parameters() if is_text_projection(family, name)}
