"""Load a whole pipeline, to draw with."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from inspect import signature
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.hardware import check_device
from editkit.model.checkpoints.components import variants
from editkit.model.checkpoints.loadable import OPTIONAL, check_loadable
from editkit.model.checkpoints.source import Source, find
from editkit.model.placement import Placement, lay
from editkit.model.prompts import fit_windows
from editkit.model.quantize import check_backend, check_quantizable, read_quantized
from editkit.model.quiet import errors_only, quiet
from editkit.model.single_file_pipeline import check_whole, load_single_file

PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Components with weights that are drawn with, of those that a model has."""


def load(
    model: str | os.PathLike[str] | Source | None = None,
    device: str = "cpu",
    dtype: Any = None,
    storage: str | None = None,
    offload: str = "none",
    tile_vae: bool = False,
    quantize: str | None = None,
    without: Collection[str] = (),
) -> Any:
    """A pipeline of diffusers that draws from a prompt: `load("emoji")`, a folder, or a file of SD 1.x, 2.x or SDXL.

    Offline; no pickle is read. Weights are in `dtype`, float32 by default. `editkit.drawing.sampler` then computes in
    bfloat16 where the processor does that in hardware.

    Args:
        model: as `open_model` takes it.
        device: `cpu`, `cuda`, `cuda:1`, ...
        dtype: `float32`, `bfloat16` or `float16`, or one of torch; None is float32.
        storage: `fp8` keeps the network in float8, cast a layer at a time to `dtype` (bfloat16).
        offload: `model` or `sequential`: components or layers lie in the processor's memory while they do not compute.
        tile_vae: decode pictures that are larger than the decoder's own tile in tiles.
        quantize: `int8` keeps the network's matrices in eight bits. It needs torchao and a folder.
        without: components of a folder that are left out.

    Raises:
        EditkitError: another model, a weight that cannot be read, or no such device; or as `Placement`.
    """
    import diffusers

    source = model if isinstance(model, Source) else find(model)
    if source.family.component == "unet":
        check_text_to_image(source)
    kept = None if dtype is None else str(dtype).removeprefix("torch.")
    placement = Placement(kept, storage, offload, tile_vae, quantize)
    placement.check(device)
    if quantize is not None:
        check_backend(quantize)
        check_quantizable(source, quantize)
    check_device(device)
    parts = [name for name in PARTS if name in source.components and name not in without]
    dtypes = {name: placement.weight_dtype(name, source.config(name)) for name in parts}
    if source.is_single_file:
        first, *others = dtypes.values()
        pipe = load_single_file(source, first if all(other == first for other in others) else torch.float32)
        return _ready(source, pipe, dtypes, placement, device)
    for component in source.components:
        if component not in OPTIONAL:
            check_loadable(source, component)
    kind, network = getattr(diffusers, source.pipeline_class), source.family.component
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    try:
        with quiet():
            given = {} if quantize is None else {network: read_quantized(source, dtypes[network], quantize)}
            others = {name: dtype for name, dtype in dtypes.items() if name not in given}
            pipe = kind.from_pretrained(
                source.path,
                **given,
                **dict.fromkeys(without),
                **variants(source, others),
                dtype={"default": torch.float32, **dtypes},
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                **{name: value for name, value in unchecked.items() if name in signature(kind.__init__).parameters},
            )
    except Exception as error:  # diffusers raises whatever its readers raise
        said = " ".join(str(error).split())
        raise EditkitError(f"model {source.name}: cannot be loaded by diffusers ({said})") from error
    return _ready(source, pipe, dtypes, placement, device)


def _ready(source: Source, pipe: Any, dtypes: Mapping[str, Any], placement: Placement, device: str) -> Any:
    for name, wanted in dtypes.items():
        part = getattr(pipe, name)
        plain = source.is_single_file or source.components[name][0] == "diffusers"
        if plain and part.dtype != wanted:  # diffusers leaves some as in their file
            with errors_only():
                part.to(wanted)
    fit_windows(pipe)
    pipe.set_progress_bar_config(disable=True)
    for part in (getattr(pipe, "unet", None), pipe.vae):  # one that was left out is None
        if part is not None and all(weight.ndim < 5 for weight in part.parameters()):  # a video's have another order
            part.to(memory_format=torch.channels_last)  # convolutions of a processor are much faster on this order
    lay(pipe, placement, device)
    return pipe


def check_text_to_image(source: Source) -> None:
    """Refuse a model that is no UNet that draws from a prompt alone, from its configuration.

    Raises:
        EditkitError: a single file that is not whole, another architecture, a UNet that reads a picture beside the
            latents (inpainting, InstructPix2Pix), a distilled one that reads its guidance, or a refiner.
    """
    if source.is_single_file:
        check_whole(source)
    kind = source.index.get("_class_name")
    if source.family.component != "unet":
        raise EditkitError(f"model {source.name}: expected a model with a UNet, this is {source.family.title} ({kind})")
    unet, channels = source.config("unet"), source.config("vae").get("latent_channels", 4)
    reads = unet.get("in_channels", 4)
    why = None
    if reads != channels:
        why = f"its unet reads {reads} channels where latents have {channels}: it draws over a picture"
    elif unet.get("time_cond_proj_dim") is not None:
        why = "its unet reads the guidance scale: it is distilled (LCM)"
    elif source.index.get("requires_aesthetics_score"):
        why = "it refines pictures of another model"
    if why is not None:
        raise EditkitError(
            f"model {source.name}: expected one that draws from a prompt alone, but {why}; edit it with "
            f"`editkit erase`, and draw with its export in diffusers ({kind})"
        )
