"""Language models as text encoders: what a pipeline writes around a prompt, and which hidden states it takes."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import Any

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.reader import Reader, lower
from editkit.embeddings.states import Loaded, masked_states
from editkit.errors import EditkitError
from editkit.model.captions import normed, projected
from editkit.model.checkpoints.components import read, stated_class
from editkit.model.checkpoints.projections import stored_component
from editkit.model.checkpoints.source import Source
from editkit.model.encoders.t5 import mark_of

PROMPT = "(the prompt)"
"""Stands for one where a tokenizer is asked what it writes around."""


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


def sana(source: Source) -> TextEncoder:
    """Gemma 2: long instructions before the prompt, of which the denoiser reads the start token alone."""
    import diffusers

    pipeline = getattr(diffusers, str(source.index.get("_class_name")))
    asked = signature(pipeline.__call__).parameters["complex_human_instruction"].default
    instructions = "\n".join(asked or ())
    encoder = _encoder(source, 300, (), before=instructions, clean=lower)
    reader = encoder.reader
    if instructions:  # the last of their tokens is the space that the prompt's first token takes with it
        reader.dropped = range(1, len(reader.tokenizer(instructions).input_ids) - 1)
    return normed(source, projected(source, encoder, "caption_projection"), "caption_norm", 1e-5)


def qwenimage(source: Source) -> TextEncoder:
    """Qwen2.5-VL: a chat in which the prompt is the user's part; the denoiser does not read the system's."""
    from diffusers import QwenImagePipeline

    nothing: Any = None
    pipeline = QwenImagePipeline(nothing, nothing, nothing, nothing, nothing)
    before, after = pipeline.prompt_template_encode.split("{}")
    dropped = range(pipeline.prompt_template_encode_start_idx)
    encoder = _encoder(source, 512, (-1,), before=before, after=after, dropped=dropped)
    return normed(source, encoder, "txt_norm", 1e-6)


def flux2_klein(source: Source) -> TextEncoder:
    """Qwen3: a chat of one message, three of its layers side by side. The denoiser reads the padding too."""
    encoder = _encoder(source, 512, (9, 18, 27))
    tokenizer = encoder.reader.tokenizer
    if tokenizer.padding_side != "right":
        raise EditkitError(f"model {source.name}: its tokenizer pads on the left, and FLUX.2 klein's on the right")
    messages = [{"role": "user", "content": PROMPT}]
    how = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    encoder.reader.before, encoder.reader.after = tokenizer.apply_chat_template(messages, **how).split(PROMPT)
    return replace(encoder, padding=None)


def _encoder(source: Source, length: int, layers: tuple[int, ...], **written: Any) -> TextEncoder:
    """The denoiser reads the prompt's own tokens and what is written around them, no padding behind."""
    reader = Reader(read(source, stated_class(source, "tokenizer"), "tokenizer"), **written)
    kind = stated_class(source, "text_encoder")
    loaded = Loaded(lambda: read(source, kind, "text_encoder", dtype="auto"))
    stored_component(source, "text_encoder")  # what is missing or quantised is refused now
    stated = kind.config_class.from_dict(source.config("text_encoder"))
    config = getattr(stated, "text_config", stated)
    width = int(config.hidden_size) * max(1, len(layers))
    states = masked_states(reader, loaded, layers)

    def mark() -> str:
        return f"{mark_of(loaded)}-layers{layers}"

    return TextEncoder(reader, states, width, length, mark, padding=0, free=loaded.free, move=loaded.move)
