"""Put an edit into a loaded pipeline, and take it out again to the very bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from editkit.edits.edit import Edit
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import is_text_projection
from editkit.model.families.family import check_editable
from editkit.model.families.table import family_of

Originals = list[tuple[Any, Tensor]]
"""Parameters and what was in them: names may change while a pipeline is edited, by a LoRA for instance."""


@torch.no_grad()
def apply_edit(pipe: Any, edit: Edit | Tuned) -> Originals:
    """Overwrite the text projections of `pipe`, or what was tuned, with the edited ones; returns the originals for
    `revert_edit`.

    Raises:
        EditkitError: the pipeline's family is unknown, the edit is for another width or other layers, or the weights
            are not where they can be edited: fused, offloaded or quantised.
    """
    weights = _tuned_parameters(pipe, edit) if isinstance(edit, Tuned) else _text_projections(pipe, edit)
    edited = edit.weights({name: weight.detach().cpu() for name, weight in weights.items()})
    if isinstance(edit, Edit) and edit.maps and not edited:
        raise EditkitError(
            f"the edit is for {', '.join(edit.maps)}, but {type(pipe).__name__} has no such projection; "
            "use the model family that the edit was made for"
        )
    originals = [(weights[name], weights[name].detach().clone()) for name in edited]
    for name, value in edited.items():
        weights[name].copy_(value)
    return originals


@torch.no_grad()
def revert_edit(originals: Originals) -> None:
    """Put back what `apply_edit` returned: kept, not recomputed, so bit for bit."""
    for weight, value in originals:
        weight.copy_(value)


@contextmanager
def applied(pipe: Any, edit: Edit | Tuned) -> Iterator[Any]:
    """`with applied(pipe, edit): ...` draws with the edit; afterwards the pipeline is what it was."""
    originals = apply_edit(pipe, edit)
    try:
        yield pipe
    finally:
        revert_edit(originals)


def denoiser(pipe: Any) -> Any:
    """The UNet or the transformer, compiled or not."""
    unet = getattr(pipe, "unet", None)
    model = pipe.transformer if unet is None else unet
    return getattr(model, "_orig_mod", model)


def _text_projections(pipe: Any, edit: Edit) -> dict[str, Any]:
    """Tensor name → parameter. A LoRA that is loaded keeps the weight under `base_layer`; the edit goes beneath it.

    Raises:
        EditkitError: the edit names a tensor of the denoiser that no closed form can edit; the message says why.
    """
    model = denoiser(pipe)
    components = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
    family = family_of(type(pipe).__name__, model.config, components)
    own = dict(model.named_parameters())
    for name in edit.maps:
        if name in own:
            check_editable(family, name)
    return _parameters(model, lambda name: is_text_projection(family, name))


def _tuned_parameters(pipe: Any, tuned: Tuned) -> dict[str, Any]:
    found = _parameters(denoiser(pipe), tuned.changes)
    missing = next((name for name in tuned.names if name not in found), None)
    if missing is not None:
        raise EditkitError(
            f"{missing}: was tuned, but {type(pipe).__name__} has no such tensor; use the model that was refined"
        )
    return found


def _parameters(model: Any, wanted: Callable[[str], bool]) -> dict[str, Any]:
    found = {}
    for own, weight in model.named_parameters():
        name = own.replace(".base_layer.", ".")
        if wanted(name):
            _check_editable(model, own, weight)
            found[name] = weight
    return found


def _check_editable(model: Any, name: str, weight: Any) -> None:
    parts = name.split(".")
    around = [model.get_submodule(".".join(parts[:n])) for n in range(len(parts) - 1)]
    if any(getattr(module, "fused_projections", False) for module in around):
        raise EditkitError(f"{name}: its pipeline runs fused projections; call unfuse_qkv_projections() first")
    if weight.is_meta:
        raise EditkitError(f"{name}: its weights are offloaded; edit the pipeline before offloading it")
    if not weight.is_floating_point():
        raise EditkitError(
            f"{name}: is quantised to {weight.dtype}; edit the unquantised model and quantise the export"
        )
