"""Language models as text encoders: what a pipeline writes around a prompt, and which hidden states it takes."""

from __future__ import annotations

from typing import Any

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.reader import Reader
from editkit.embeddings.states import masked_states
from editkit.model.captions import normed
from editkit.model.components import read, stated_class
from editkit.model.projections import fingerprint
from editkit.model.source import Source


def cogview4(source: Source) -> TextEncoder:
    """GLM: padding on the left, up to a multiple of 16, read like any other token; the penultimate layer."""
    return _encoder(source, 1024, (-2,), multiple=16)


def lumina2(source: Source) -> TextEncoder:
    """Gemma 2: instructions before the prompt, which the denoiser reads too; the penultimate layer, normed."""
    from diffusers import Lumina2Pipeline

    nothing: Any = None
    instructions = Lumina2Pipeline(nothing, nothing, nothing, nothing, nothing).system_prompt
    encoder = _encoder(source, 256, (-2,), before=f"{instructions} <Prompt Start> ")
    eps = float(source.config("transformer").get("norm_eps", 1e-5))
    return normed(source, encoder, "time_caption_embed.caption_embedder.0", eps)


def _encoder(source: Source, length: int, layers: tuple[int, ...], **written: Any) -> TextEncoder:
    """The denoiser reads the prompt's own tokens and what is written around them, no padding behind."""
    reader = Reader(read(source, stated_class(source, "tokenizer"), "tokenizer"), **written)
    model = read(source, stated_class(source, "text_encoder"), "text_encoder", dtype="auto")
    mark = fingerprint((f"0.{name}", value) for name, value in model.state_dict().items())
    config = getattr(model.config, "text_config", model.config)
    width = int(config.hidden_size) * max(1, len(layers))
    states = masked_states(reader, model, layers)
    return TextEncoder(reader, states, width, length, f"{mark}-layers{layers}", padding=0)
