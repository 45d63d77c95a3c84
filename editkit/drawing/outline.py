"""A model without its weights: what its configuration says of shapes, on tensors that have no values."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from editkit.drawing.pipelines import check_drawable
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.errors import EditkitError
from editkit.model.checkpoints.components import stated_class
from editkit.model.checkpoints.source import Source
from editkit.model.pipeline import PARTS
from editkit.model.placement import Placement
from editkit.model.quiet import errors_only


@dataclass
class Window:
    """What a pipeline asks of a tokenizer before it has a prompt."""

    model_max_length: int


def is_outlined(source: Source) -> bool:
    """Whether diffusers has the pipeline of a model: a plug-in's may be its own."""
    import diffusers

    return hasattr(diffusers, source.pipeline_class)


def outline(
    source: Source,
    without_values: AbstractContextManager[Any],
    placement: Placement | None = None,
    parts: Collection[str] = PARTS,
) -> Denoiser:
    """The denoiser of a model, in the dtypes that it would be loaded in. No file but configurations is read, and of a
    single file its header. `Denoiser.blank` stands for its prompts.

    Args:
        without_values: where its tensors are made: `torch.device("meta")`, which is enough to ask for shapes; or a
            `FakeTensorMode` that allows other tensors, under which it can be run.
        placement: without, float32.
        parts: components that are wanted; the others are None.

    Raises:
        EditkitError: it cannot be drawn, diffusers does not have its pipeline, or a component has no configuration.
    """
    import diffusers

    kind, placement = check_drawable(source), placement or Placement()
    if not is_outlined(source):
        raise EditkitError(
            f"model {source.name}: expected a pipeline of diffusers, which has no {source.pipeline_class}: it "
            "cannot be planned for"
        )
    pipeline = getattr(diffusers, source.pipeline_class)
    taken = signature(pipeline.__init__).parameters
    made: dict[str, Any] = {name: None for name, known in taken.items() if known.default is known.empty}
    del made["self"]
    positions = source.config("text_encoder").get("max_position_embeddings", 77)
    made |= {name: Window(positions) for name in taken if name.startswith("tokenizer")}
    made["scheduler"] = getattr(diffusers, source.components["scheduler"][1])()
    wanted = [name for name in PARTS if name in source.components and name in parts]
    with errors_only(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a scheduler that stands for the model's own
        with without_values:
            made |= {name: _component(source, name, placement) for name in wanted}
        denoiser: Any = kind(pipeline(**made))
    if placement.dtype is not None:
        denoiser.half = torch.float32
    return denoiser


def _component(source: Source, name: str, placement: Placement) -> Any:
    import diffusers

    config = source.config(name)
    if not config:
        what = f"a whole {name} in it, some was pruned" if source.is_single_file else f"{name}/config.json, found none"
        raise EditkitError(f"model {source.name}: expected {what}; fetch the whole model")
    dtype = placement.weight_dtype(name, config)
    library, kind = source.components[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        if library == "diffusers":
            return getattr(diffusers, kind).from_config(config).eval()
        known = stated_class(source, name)
        return _in_dtype(known(known.config_class.from_dict(config)).eval(), dtype)
    finally:
        torch.set_default_dtype(before)


def _in_dtype(encoder: Any, dtype: torch.dtype) -> Any:
    """An encoder as transformers loads it: what its configuration says of dtypes does not count, but some layers stay
    in float32 for float16."""
    exact = (encoder._keep_in_fp32_modules or ()) if dtype == torch.float16 else ()
    made: dict[int, nn.Parameter] = {}  # weights that are tied stay so
    for path, layer in encoder.named_modules():
        own = torch.float32 if any(part in exact for part in path.split(".")) else dtype
        for name, weight in layer.named_parameters(recurse=False):
            new = made.setdefault(id(weight), nn.Parameter(torch.empty(weight.shape, dtype=own)))
            setattr(layer, name, new)
    return encoder
