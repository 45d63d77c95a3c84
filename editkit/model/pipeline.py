"""Load a whole pipeline, to draw with."""

from __future__ import annotations

import os
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.model.checkpoints.components import variants
from editkit.model.checkpoints.loadable import check_loadable
from editkit.model.checkpoints.source import Source, find
from editkit.model.prompts import fit_windows
from editkit.model.quiet import quiet

PARTS = ("unet", "vae", "text_encoder")
"""Components with weights that are drawn with."""


def load(model: str | os.PathLike[str] | Source | None = None, device: str = "cpu", dtype: Any = None) -> Any:
    """A `StableDiffusionPipeline`: `load("emoji")`, or a diffusers folder. Offline; no pickle is read.

    Weights are in `dtype`, float32 by default. `editkit.drawing.sampler` computes in bfloat16 where the processor
    does that in hardware.
    """
    from diffusers import StableDiffusionPipeline

    source = model if isinstance(model, Source) else find(model)
    if source.is_single_file:
        raise EditkitError(
            f"model {source.name}: pictures are drawn with a diffusers folder, this is a single file; load it with "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(DIR) and give that folder"
        )
    kind = source.index.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise EditkitError(f"model {source.name}: expected a StableDiffusionPipeline, its model_index.json says {kind}")
    dtype = dtype or torch.float32
    for component in PARTS:
        check_loadable(source, component)
    try:
        with quiet():
            pipe = StableDiffusionPipeline.from_pretrained(
                source.path,
                **variants(source, PARTS, dtype),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                safety_checker=None,
                requires_safety_checker=False,
            )
    except Exception as error:  # diffusers raises whatever its readers raise
        raise EditkitError(f"model {source.name}: cannot be loaded by diffusers ({error})") from error
    fit_windows(pipe)
    pipe.set_progress_bar_config(disable=True)
    try:
        pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise EditkitError(f"--device {device}: cannot be used here ({str(error).splitlines()[0]}); try cpu") from error
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)  # convolutions of a processor are much faster on this order
    return pipe
