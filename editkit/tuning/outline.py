"""A model without its weights: what its configuration says of shapes."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch

from editkit.drawing.pipelines import check_drawable
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.quiet import quiet


def outline(source: Source) -> Denoiser:
    """The denoiser of a model, its network and VAE on "meta". It has no text encoder: `blank_prompts` stand for its
    prompts.

    Raises:
        EditkitError: no folder of diffusers.
    """
    import diffusers

    kind, family = check_drawable(source), source.family
    config = source.config(family.component)
    if not config:
        raise EditkitError(f"model {source.name}: expected a diffusers folder with a {family.component}, found none")
    with torch.device("meta"), quiet():
        pipeline = getattr(diffusers, source.pipeline_class)
        given = signature(pipeline.__init__).parameters.values()
        parts: dict[str, Any] = {
            each.name: None for each in given if each.default is each.empty and each.name != "self"
        }
        parts[family.component] = getattr(diffusers, family.denoiser).from_config(config)
        parts["vae"] = diffusers.AutoencoderKL.from_config(source.config("vae"))
        return kind(pipeline(**parts))


def blank_prompts(source: Source, denoiser: Denoiser, rows: int) -> Condition:
    """So many prompts without meaning, in the shapes of the model's own."""
    tokens, width, pooled = _prompt_shape(source, denoiser)
    return Condition(torch.randn(rows, tokens, width), None if pooled is None else torch.randn(rows, pooled))


def _prompt_shape(source: Source, denoiser: Denoiser) -> tuple[int, int, int | None]:
    """Tokens, their width, and that of the pooled vector."""
    config, clip = denoiser.network.config, source.config("text_encoder").get("max_position_embeddings", 77)
    if source.family.component == "unet":
        pooled = source.config("text_encoder_2").get("projection_dim") if source.family.name == "sdxl" else None
        return clip, config["cross_attention_dim"], pooled
    t5 = signature(type(denoiser.pipe).__call__).parameters["max_sequence_length"].default
    tokens = clip + t5 if source.family.name == "sd3" else t5
    return tokens, config["joint_attention_dim"], config["pooled_projection_dim"]
