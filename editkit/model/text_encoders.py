"""The text encoders of a model, as the streams of rows that its denoiser reads."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from editkit.embeddings.clip_text import PROJECTION, ClipText
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.states import States, clip_pooled, clip_states, side_by_side, t5_states, widened
from editkit.errors import EditkitError
from editkit.model.families import ENCODED
from editkit.model.projections import fingerprint, read_tensors
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
    return {"text": (_encoder(tokenizer, clip_states(tokenizer, model), model.width, _hash(model)),)}


def _sdxl(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    states = side_by_side(clip_states(small, small_model, PENULTIMATE), clip_states(big, big_model, PENULTIMATE))
    mark = _hash(small_model, big_model)
    text = _encoder(small, states, small_model.width + big_model.width, mark)
    return {"text": (text,), "pooled": (_pooled(big, clip_pooled(big, big_model, True), big_model.projected, mark),)}


def _sd3(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    width = int(source.config("transformer")["joint_attention_dim"])
    states = side_by_side(clip_states(small, small_model, PENULTIMATE), clip_states(big, big_model, PENULTIMATE))
    mark = _hash(small_model, big_model)
    parts = [_encoder(small, widened(states, width), width, mark)]
    if (source.path / "text_encoder_3").is_dir():  # many leave T5 out: it is most of the download
        parts.append(_t5(source, "_3"))
    both = side_by_side(clip_pooled(small, small_model, True), clip_pooled(big, big_model, True))
    pooled = _pooled(small, both, small_model.projected + big_model.projected, mark)
    return {"text": tuple(parts), "pooled": (pooled,)}


def _flux(source: Source) -> Streams:
    (tokenizer, model), *_ = _clips(source, ("",), pooled=False)
    pooled = _pooled(tokenizer, clip_pooled(tokenizer, model, False), model.width, _hash(model))
    return {"text": (_t5(source, "_2"),), "pooled": (pooled,)}


def _clips(source: Source, suffixes: tuple[str, ...], pooled: bool = True) -> list[tuple[Any, ClipText]]:
    """Tokenizer and model of every CLIP text encoder. With `pooled`, those that project do."""
    if source.is_single_file:
        from editkit.model.single_file import read_text_encoders

        return read_text_encoders(source.path, source.family.name, source.tokenizer)
    from transformers import CLIPTokenizer

    return [
        (_read(source, CLIPTokenizer, f"tokenizer{end}"), _clip(source, f"text_encoder{end}", pooled))
        for end in suffixes
    ]


def _clip(source: Source, component: str, pooled: bool) -> ClipText:
    # SDXL's first encoder is stored without a projection and read for its hidden states alone
    stated = source.index.get(component), source.config(component).get("architectures")
    projects = pooled and "WithProjection" in str(stated)
    tensors = {}
    for path in source.weights(component):
        tensors |= read_tensors(path, lambda _: True)
    try:
        return ClipText.of(source.config(component), tensors, projects)
    except KeyError as error:
        raise EditkitError(
            f"model {source.name}: its {component} lacks {error.args[0]}; the model is incomplete, fetch it again"
        ) from error


def _t5(source: Source, suffix: str) -> TextEncoder:
    from transformers import T5EncoderModel, T5Tokenizer

    length = T5_LENGTH[source.family.name]
    tokenizer = _read(source, T5Tokenizer, f"tokenizer{suffix}")
    model = _read(source, T5EncoderModel, f"text_encoder{suffix}", dtype="auto")
    mark = fingerprint((f"0.{name}", value) for name, value in model.state_dict().items())
    states = t5_states(tokenizer, model, length)
    return TextEncoder(tokenizer, states, int(model.config.d_model), length, mark, causal=False)


def _read(source: Source, kind: Any, component: str, **how: Any) -> Any:
    """A tokenizer, or with `how` a model of safetensors."""
    folder: Path = source.path / component
    if how:
        how |= {"use_safetensors": True, "variant": source.variant(component)}  # a pickle, or nothing, is refused here
    try:
        with quiet() if how else nullcontext():
            read = kind.from_pretrained(folder, local_files_only=True, **how)
    except Exception as error:  # transformers raises whatever its readers raise
        raise EditkitError(f"model {source.name}: its {component} cannot be read ({error}); fetch it again") from error
    return read.eval() if how else read


def _encoder(tokenizer: Any, states: States, width: int, mark: str) -> TextEncoder:
    return TextEncoder(tokenizer, states, width, int(tokenizer.model_max_length), f"{mark}-states")


def _pooled(tokenizer: Any, states: States, width: int, mark: str) -> TextEncoder:
    return TextEncoder(tokenizer, states, width, 1, f"{mark}-pooled", pooled=True)


def _hash(*models: ClipText) -> str:
    """Of the values in memory: a folder and a single file of one model agree. Names are those of transformers, whose
    model with a projection wraps the one without."""
    return fingerprint(
        (f"{n}.text_model.{name}" if PROJECTION in model.tensors and name != PROJECTION else f"{n}.{name}", value)
        for n, model in enumerate(models)
        for name, value in model.tensors.items()
    )
