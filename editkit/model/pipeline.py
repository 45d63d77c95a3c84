"""Load a whole pipeline, to draw with."""

from __future__ import annotations

import os
from inspect import signature
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.hardware import check_device
from editkit.model.checkpoints.components import variants
from editkit.model.checkpoints.loadable import OPTIONAL, check_loadable
from editkit.model.checkpoints.source import Source, find
from editkit.model.prompts import fit_windows
from editkit.model.quiet import quiet
from editkit.model.single_file_pipeline import check_whole, load_single_file

PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Components with weights that are drawn with, of those that a model has."""


def load(model: str | os.PathLike[str] | Source | None = None, device: str = "cpu", dtype: Any = None) -> Any:
    """A pipeline of diffusers that draws from a prompt: `load("emoji")`, a folder, or a file of SD 1.x, 2.x or SDXL.

    Offline; no pickle is read. Weights are in `dtype`, float32 by default. `editkit.drawing.sampler` computes in
    bfloat16 where the processor does that in hardware.

    Args:
        model: as `open_model` takes it.
        device: `cpu`, `cuda`, `cuda:1`, ...
        dtype: of torch; None is float32.

    Raises:
        EditkitError: another model, a weight that cannot be read, or no such device.
    """
    import diffusers

    source = model if isinstance(model, Source) else find(model)
    if source.family.component == "unet":
        check_text_to_image(source)
    check_device(device)
    dtype = dtype or torch.float32
    if source.is_single_file:
        return _ready(load_single_file(source, dtype), device)
    parts = [name for name in PARTS if name in source.components]
    for component in source.components:
        if component not in OPTIONAL:
            check_loadable(source, component)
    kind = getattr(diffusers, source.pipeline_class)
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    try:
        with quiet():
            pipe = kind.from_pretrained(
                source.path,
                **variants(source, parts, dtype),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                **{name: value for name, value in unchecked.items() if name in signature(kind.__init__).parameters},
            )
    except Exception as error:  # diffusers raises whatever its readers raise
        said = " ".join(str(error).split())
        raise EditkitError(f"model {source.name}: cannot be loaded by diffusers ({said})") from error
    return _ready(pipe, device)


def _ready(pipe: Any, device: str) -> Any:
    fit_windows(pipe)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    for part in (getattr(pipe, "unet", None), pipe.vae):
        if part is not None and all(weight.ndim < 5 for weight in part.parameters()):  # a video's have another order
            part.to(memory_format=torch.channels_last)  # convolutions of a processor are much faster on this order
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
