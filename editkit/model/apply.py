"""Put an edit into a loaded pipeline, and take it out again to the very bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import is_text_projection
from editkit.model.encoder_weights import encoder_weight, encoders_of
from editkit.model.families.family import Family, check_editable, rule_for
from editkit.model.families.table import family_of

Originals = list[tuple[Any, Tensor]]
"""Parameters and what was in them: names may change while a pipeline is edited, by a LoRA for instance."""


@torch.no_grad()
def apply_edit(pipe: Any, edit: Variant) -> Originals:
    """Overwrite the text projections of `pipe`, or what was tuned, with the edited ones; returns the originals for
    `revert_edit`.

    Raises:
        EditkitError: the pipeline's family is unknown, the edit is for another width or other layers, or the weights
            are not where they can be edited: fused, offloaded or quantised.
    """
    weights = changed_weights(pipe, edit)
    edited = edit.weights({name: weight.detach().cpu() for name, weight in weights.items()})
    if not edited:
        raise EditkitError(
            f"{type(pipe).__name__} has no such projection as the edit is for; use the family that it was made for"
        )
    originals = [(weights[name], weights[name].detach().clone()) for name in edited]
    for name, value in edited.items():
        weights[name].copy_(value)
    return originals


def changed_weights(pipe: Any, edit: Variant) -> dict[str, Any]:
    """Tensor name → parameter, of those that `edit` may change.

    Raises:
        EditkitError: one is not where it can be edited.
    """
    return text_projections(pipe, edit.keys) if edit.names is None else _named_parameters(pipe, edit)


@torch.no_grad()
def revert_edit(originals: Originals) -> None:
    """Put back what `apply_edit` returned: kept, not recomputed, so bit for bit."""
    for weight, value in originals:
        weight.copy_(value)


@contextmanager
def applied(pipe: Any, edit: Variant) -> Iterator[Any]:
    """`with applied(pipe, edit): ...` draws with the edit; afterwards the pipeline is what it was, to the bit.

    Args:
        pipe: a pipeline of diffusers.
        edit: an edit, or what `refine` or `hide` made.

    Raises:
        EditkitError: see `apply_edit`.
    """
    originals = apply_edit(pipe, edit)
    try:
        yield pipe
    finally:
        revert_edit(originals)


def network_of(pipe: Any) -> Any:
    """The UNet or the transformer, compiled or not."""
    unet = getattr(pipe, "unet", None)
    model = pipe.transformer if unet is None else unet
    return getattr(model, "_orig_mod", model)


def family_of_pipeline(pipe: Any) -> Family:
    """The family of a loaded pipeline, by its class and its parts.

    Raises:
        EditkitError: it is of none.
    """
    components = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
    return family_of(type(pipe).__name__, network_of(pipe).config, components)


def text_projections(pipe: Any, keys: Collection[str] = ()) -> dict[str, Any]:
    """Tensor name → parameter. A LoRA that is loaded keeps the weight under `base_layer`; the edit goes beneath it.

    Args:
        keys: what an edit calls the projections.

    Raises:
        EditkitError: one is the name of a tensor that no closed form can edit; the message says why.
    """
    model, family = network_of(pipe), family_of_pipeline(pipe)
    own = dict(model.named_parameters())
    for name in keys:
        if name in own:
            check_editable(family, name)
    return _parameters(model, lambda name: is_text_projection(family, name))


def projection_names(pipe: Any) -> dict[str, tuple[str, ...]]:
    """Stream of text embeddings → the names of the projections that read it, as in `text_projections`."""
    family = family_of_pipeline(pipe)
    names = [own.replace(".base_layer.", ".") for own, _ in network_of(pipe).named_parameters()]
    weights = [name for name in names if is_text_projection(family, name)]
    return {rule.stream: tuple(name for name in weights if rule_for(family, name) == rule) for rule in family.rules}


def _named_parameters(pipe: Any, edit: Variant) -> dict[str, Any]:
    parameters = _parameters(network_of(pipe), edit.changes)
    for component in encoders_of(edit.names):
        encoder = getattr(pipe, component, None)
        for own, weight in () if encoder is None else encoder.named_parameters():
            if edit.changes(name := encoder_weight(component, own)):
                _check_editable(encoder, own, weight)
                parameters[name] = weight
    missing = next((name for name in edit.names or () if name not in parameters), None)
    if missing is not None:
        raise EditkitError(
            f"{missing}: was tuned, but {type(pipe).__name__} has no such tensor; use the model that was refined"
        )
    return parameters


def _parameters(model: Any, wanted: Callable[[str], bool]) -> dict[str, Any]:
    parameters = {}
    for own, weight in model.named_parameters():
        name = own.replace(".base_layer.", ".")
        if wanted(name):
            _check_editable(model, own, weight)
            parameters[name] = weight
    return parameters


def _check_editable(model: Any, name: str, weight: Any) -> None:
    parts = name.split(".")
    around = [model.get_submodule(".".join(parts[:n])) for n in range(len(parts) - 1)]
    if any(getattr(module, "fused_projections", False) for module in around):
        raise EditkitError(f"{name}: its pipeline runs fused projections; call unfuse_qkv_projections() first")
    if weight.is_meta:
        raise EditkitError(
            f"{name}: its weights are offloaded; edit the pipeline before offloading it, or offload whole models"
        )
    if not weight.is_floating_point() or weight.dtype.itemsize == 1:
        raise EditkitError(
            f"{name}: is quantised to {weight.dtype}; edit the unquantised model and quantise the export"
        )
