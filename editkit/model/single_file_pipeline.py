"""A single-file checkpoint as a pipeline of diffusers, offline: its configuration stands in no file, see
`editkit.model.checkpoints.ldm_config`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from editkit.embeddings.clip_text import ClipText
from editkit.errors import EditkitError
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.ldm_vae import ldm_vae_name
from editkit.model.checkpoints.numbers import Weights, open_weights
from editkit.model.checkpoints.single_file import read_text_encoders
from editkit.model.checkpoints.source import Source
from editkit.model.quiet import quiet

NEEDED = {
    "vae": "it was saved without one; give a checkpoint with its VAE in it",
    "text_encoder": "it is a UNet alone; give a whole checkpoint",
    "text_encoder_2": "it was pruned; give a whole checkpoint",
}
"""What is drawn with beside the UNet, and what a file without it is."""
EDM = ("edm_mean", "edm_vpred.sigma_max")
"""Tensors of models with another noise schedule, which is not among the released ones: Playground 2.5 and CosXL."""

OwnName = Callable[[str], str]
"""diffusers' name of a tensor → the file's, without what stands before all of its component."""


def check_whole(source: Source) -> None:
    """Refuse a single file that lacks what it takes to draw, from its header.

    Raises:
        EditkitError: it lacks a component, a weight is quantised, or its noise is that of another kind of model.
    """
    stated = source.stated
    for component in stated.parts:
        if component not in stated.index:
            prefix = stated.prefix(component)
            raise EditkitError(
                f"model {source.name}: expected a {component} in it (tensors named {prefix}…), found none: "
                f"{NEEDED[component]}"
            )
    noise = next((name for name in EDM if name in stated.shapes), None)
    if noise is not None:
        raise EditkitError(
            f"model {source.name}: holds {noise}: it was trained with EDM's noise, which is not drawn here; edit it "
            "with `editkit erase`, and draw with its export in ComfyUI"
        )
    starts = tuple(start for component in stated.parts for start in stated.starts(component))
    with open_weights(source.path) as opened:
        for name in opened.names:
            if name.startswith(starts):
                opened.is_plain(name)  # quantised is refused by name


def load_single_file(source: Source, dtype: torch.dtype) -> Any:
    """The pipeline, on the processor.

    Raises:
        EditkitError: as `check_whole`, or it is of another layout than the released models of its family.
    """
    import diffusers

    stated = source.stated
    if stated.assumed is not None:
        warnings.warn(f"model {source.name}: {stated.assumed}", stacklevel=3)
    levels = len(source.config("vae")["block_out_channels"])
    names: dict[str, OwnName] = {
        "unet": lambda name: ldm_name(name, stated.family),
        "vae": lambda name: ldm_vae_name(name, levels),
    }
    empty = {component: _empty(source, component, own_name) for component, own_name in names.items()}
    parts: dict[str, Any] = {"scheduler": diffusers.DDIMScheduler.from_config(source.config("scheduler"))}
    encoders = read_text_encoders(source.path, stated.family, source.tokenizer)
    for end, (tokenizer, model) in zip(("", "_2"), encoders, strict=False):
        component = f"text_encoder{end}"
        parts |= {f"tokenizer{end}": tokenizer, component: _text_encoder(source, component, model, dtype)}
    for component, network in empty.items():
        parts[component] = _filled(network, source, component, names[component], dtype)
    kind = getattr(diffusers, stated.pipeline)
    unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    known = signature(kind.__init__).parameters
    with quiet():
        return kind(**parts, **{name: value for name, value in unchecked.items() if name in known})


def _empty(source: Source, component: str, own_name: OwnName) -> Any:
    """The UNet or the VAE without its weights.

    Raises:
        EditkitError: the file holds others than it needs.
    """
    import diffusers

    kind = getattr(diffusers, source.components[component][1])
    with quiet(), torch.device("meta"):
        network = kind.from_config(source.config(component))
    _check_layout(source, component, {own_name(name): weight for name, weight in network.state_dict().items()})
    return network


def _filled(network: Any, source: Source, component: str, own_name: OwnName, dtype: torch.dtype) -> Any:
    prefix, wanted = source.stated.prefix(component), network.state_dict()
    with open_weights(source.path) as opened:
        tensors = {name: _read(opened, prefix + own_name(name), weight, dtype) for name, weight in wanted.items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _check_layout(source: Source, component: str, wanted: Mapping[str, Tensor]) -> None:
    """Refuse a component that has other tensors than its configuration asks for.

    Raises:
        EditkitError: names one that is missing, has another shape, or is nowhere read.
    """
    with open_weights(source.path) as opened:
        prefix, held = source.stated.prefix(component), source.stated.held(component)
        weights = {name for name in held if prefix + name in opened.names}
    why = None
    if missing := sorted(wanted.keys() - weights):
        why = f"lacks {missing[0]}"
    elif more := sorted(weights - wanted.keys()):
        why = f"has {more[0]}, which nothing reads"
    else:
        other = next((name for name, weight in wanted.items() if held[name] not in _forms(weight)), None)
        if other is not None:
            why = f"has {other} of shape {held[other]}, expected {tuple(wanted[other].shape)}"
    if why is not None:
        raise EditkitError(
            f"model {source.name}: its {component} is not that of the released {source.family.title}: it {why}; give a "
            "diffusers folder of it"
        )


def _forms(weight: Tensor) -> tuple[tuple[int, ...], ...]:
    """The shapes that a weight may be stored in: a matrix also as a convolution of one pixel."""
    shape = tuple(weight.shape)
    return (shape, (*shape, 1, 1)) if weight.ndim == 2 else (shape,)


def _read(opened: Weights, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy: what is read is a view of the file, which somebody may write anew while the pipeline draws."""
    return opened.read(name).reshape(like.shape).to(dtype, copy=True)


def _text_encoder(source: Source, component: str, model: ClipText, dtype: torch.dtype) -> Any:
    """transformers' class with the weights of `model`."""
    import transformers

    kind = getattr(transformers, source.components[component][1])
    config = kind.config_class.from_dict(source.config(component))
    with torch.device("meta"):
        names = kind(config).state_dict()
    tensors = {name: model.tensors[name.removeprefix("text_model.")].to(dtype, copy=True) for name in names}
    with quiet():
        return kind.from_pretrained(None, config=config, state_dict=tensors, dtype=dtype).eval()
