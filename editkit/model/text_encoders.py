"""The text encoders of a model, as the streams of rows that its denoiser reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.states import States, clip_pooled, clip_states, side_by_side, t5_states, widened
from editkit.errors import EditkitError
from editkit.model.families import ENCODED
from editkit.model.projections import fingerprint
from editkit.model.quiet import quiet
from editkit.model.source import Source

PENULTIMATE = -2
T5_LENGTH = {"sd3": 256, "flux1": 512}
Streams = dict[str, tuple[TextEncoder, ...]]


def read_streams(source: Source) -> Streams:
    """Stream → the encoders whose rows follow each other in it. Float32 on the CPU; T5 in the dtype it is stored in.

    Raises:
        EditkitError: the family's prompts cannot be encoded yet, or a component cannot be read.
    """
    if source.family.name not in ENCODED:
        raise EditkitError(
            f"model {source.name}: {source.family.title} is known to `editkit families`, but its prompts cannot be "
            "encoded here; encode them with its pipeline, and solve with editkit.edit.compute"
        )
    build = {"sd1": _one_clip, "sd2": _one_clip, "sdxl": _sdxl, "sd3": _sd3, "flux1": _flux}
    return build[source.family.name](source)


def _one_clip(source: Source) -> Streams:
    (tokenizer, model), *_ = _clips(source, ("",), pooled=False)
    return {"text": (_encoder(tokenizer, clip_states(tokenizer, model), _width(model), _hash(model)),)}


def _sdxl(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    states = side_by_side(clip_states(small, small_model, PENULTIMATE), clip_states(big, big_model, PENULTIMATE))
    mark = _hash(small_model, big_model)
    text = _encoder(small, states, _width(small_model) + _width(big_model), mark)
    return {"text": (text,), "pooled": (_pooled(big, clip_pooled(big, big_model, True), _projected(big_model), mark),)}


def _sd3(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    width = int(source.config("transformer")["joint_attention_dim"])
    states = side_by_side(clip_states(small, small_model, PENULTIMATE), clip_states(big, big_model, PENULTIMATE))
    mark = _hash(small_model, big_model)
    parts = [_encoder(small, widened(states, width), width, mark)]
    if (source.path / "text_encoder_3").is_dir():  # many leave T5 out: it is most of the download
        parts.append(_t5(source, "_3"))
    both = side_by_side(clip_pooled(small, small_model, True), clip_pooled(big, big_model, True))
    pooled = _pooled(small, both, _projected(small_model) + _projected(big_model), mark)
    return {"text": tuple(parts), "pooled": (pooled,)}


def _flux(source: Source) -> Streams:
    (tokenizer, model), *_ = _clips(source, ("",), pooled=False)
    pooled = _pooled(tokenizer, clip_pooled(tokenizer, model, False), _width(model), _hash(model))
    return {"text": (_t5(source, "_2"),), "pooled": (pooled,)}


def _clips(source: Source, suffixes: tuple[str, ...], pooled: bool = True) -> list[tuple[Any, Any]]:
    """Tokenizer and model of every CLIP text encoder, in float32. With `pooled`, those that project."""
    if source.is_single_file:
        from editkit.model.single_file import read_text_encoders

        return read_text_encoders(source.path, source.family.name, source.tokenizer)
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    found = []
    for suffix in suffixes:
        # SDXL's first encoder is stored without a projection and read for its hidden states alone
        stated = source.index.get(f"text_encoder{suffix}"), source.config(f"text_encoder{suffix}").get("architectures")
        projects = "WithProjection" in str(stated)
        kind = CLIPTextModelWithProjection if pooled and projects else CLIPTextModel
        tokenizer = _read(source, CLIPTokenizer, f"tokenizer{suffix}")
        found.append((tokenizer, _read(source, kind, f"text_encoder{suffix}", dtype=torch.float32)))
    return found


def _t5(source: Source, suffix: str) -> TextEncoder:
    from transformers import T5EncoderModel, T5Tokenizer

    length = T5_LENGTH[source.family.name]
    tokenizer = _read(source, T5Tokenizer, f"tokenizer{suffix}")
    model = _read(source, T5EncoderModel, f"text_encoder{suffix}", dtype="auto")
    mark = _hash(model)
    return TextEncoder(tokenizer, t5_states(tokenizer, model), int(model.config.d_model), length, mark, causal=False)


def _read(source: Source, kind: Any, component: str, **how: Any) -> Any:
    """A tokenizer, or with `how` a model of safetensors."""
    folder: Path = source.path / component
    if how:
        how |= {"use_safetensors": True, "variant": source.variant(component)}  # a pickle, or nothing, is refused here
    try:
        with quiet():
            read = kind.from_pretrained(folder, local_files_only=True, **how)
    except Exception as error:  # transformers raises whatever its readers raise
        raise EditkitError(f"model {source.name}: its {component} cannot be read ({error}); fetch it again") from error
    return read.eval() if how else read


def _encoder(tokenizer: Any, states: States, width: int, mark: str) -> TextEncoder:
    return TextEncoder(tokenizer, states, width, int(tokenizer.model_max_length), f"{mark}-states")


def _pooled(tokenizer: Any, states: States, width: int, mark: str) -> TextEncoder:
    return TextEncoder(tokenizer, states, width, 1, f"{mark}-pooled", pooled=True)


def _width(model: Any) -> int:
    return int(model.config.hidden_size)


def _projected(model: Any) -> int:
    return int(model.config.projection_dim)


def _hash(*models: Any) -> str:
    """Of the values in memory: a folder and a single file of one model agree."""
    named = [(f"{n}.{name}", value) for n, model in enumerate(models) for name, value in model.state_dict().items()]
    return fingerprint(named)
