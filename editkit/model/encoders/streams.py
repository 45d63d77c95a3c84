"""The text encoders of a model, as the streams of rows that its denoiser reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from torch import Tensor

from editkit.embeddings.clip_text import PROJECTION, ClipText
from editkit.embeddings.clip_tokens import read_clip_tokens
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.learned import with_learned
from editkit.embeddings.reader import Reader, lower
from editkit.embeddings.states import ClipBoth, States, clip_pooled, clip_states, side_by_side, widened
from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.captions import projected
from editkit.model.checkpoints.components import read
from editkit.model.checkpoints.projections import fingerprint, stored_component
from editkit.model.checkpoints.source import Source
from editkit.model.encoders.llm import cogview4, flux2_klein, lumina2, qwenimage, sana
from editkit.model.encoders.t5 import masked_t5_encoder, t5_encoder
from editkit.model.families.family import Family
from editkit.model.families.table import is_encoded
from editkit.model.prompts import reader_of
from editkit.plugins import attribute

PENULTIMATE = -2
Streams = dict[str, tuple[TextEncoder, ...]]
Mark = Callable[[], str]


def read_streams(source: Source) -> Streams:
    """Stream → the encoders whose rows follow each other in it. Float32 on the CPU; T5 in the dtype it is stored in.

    Raises:
        EditkitError: the family's prompts cannot be encoded yet, or a component cannot be read.
    """
    if not is_encoded(source.family):
        raise _not_encoded(source)
    return _encoders(source.family)(source)


def _encoders(family: Family) -> Callable[[Source], Streams]:
    name = family.encoders or family.name
    if ":" not in name and name not in ENCODERS:
        raise EditkitError(
            f"family {family.name}: its encoders are {name!r}; must be module:function or one of {', '.join(ENCODERS)}"
        )
    try:
        return attribute(name) if ":" in name else ENCODERS[name]
    except (ImportError, AttributeError) as error:
        raise EditkitError(f"family {family.name}: its encoders {name} cannot be imported: {error}") from error


def _not_encoded(source: Source) -> EditkitError:
    return EditkitError(
        f"model {source.name}: {source.family.title} is known to `editkit families`, but its prompts cannot be "
        "encoded here; encode them with its pipeline, and solve with editkit.edits.method"
    )


def _one_clip(source: Source) -> Streams:
    (reader, model), *_ = _clips(source, ("",), pooled=False)
    encoder = _encoder(reader, clip_states(reader, model), model.width, _hash(model))
    return {"text": (replace(encoder, clip=model),)}


def _sdxl(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    both = ClipBoth(big, big_model)
    states = side_by_side(clip_states(small, small_model, PENULTIMATE), both.states)
    mark = _hash(small_model, big_model)
    text = _encoder(small, states, small_model.width + big_model.width, mark, big)
    pooled = _pooled(big, both.pooled, big_model.projected, mark)
    return {"text": (text,), "pooled": (replace(pooled, forget=both.forget),)}


def _sd3(source: Source) -> Streams:
    (small, small_model), (big, big_model) = _clips(source, ("", "_2"))
    width = int(source.config("transformer")["joint_attention_dim"])
    two = ClipBoth(small, small_model), ClipBoth(big, big_model)
    states = side_by_side(*(each.states for each in two))
    mark = _hash(small_model, big_model)
    parts = [_encoder(small, widened(states, width), width, mark, big)]
    if (source.path / "text_encoder_3").is_dir():  # many leave T5 out: it is most of the download
        parts.append(t5_encoder(source, "_3", 256))
    pooled = _pooled(
        small, side_by_side(*(each.pooled for each in two)), small_model.projected + big_model.projected, mark
    )

    def forget() -> None:
        for each in two:
            each.forget()

    return {"text": tuple(parts), "pooled": (replace(pooled, forget=forget),)}


def _flux(source: Source) -> Streams:
    (reader, model), *_ = _clips(source, ("",), pooled=False)
    pooled = _pooled(reader, clip_pooled(reader, model, False), model.width, _hash(model))
    return {"text": (t5_encoder(source, "_2", 512),), "pooled": (pooled,)}


def _chroma(source: Source) -> Streams:
    return {"text": (masked_t5_encoder(source, 512, padding=1),)}


def _auraflow(source: Source) -> Streams:
    return {"text": (masked_t5_encoder(source, 256),)}  # the rows of padding are zeros, which no map moves


def _pixart(source: Source) -> Streams:
    length = 120 if source.index.get("_class_name") == "PixArtAlphaPipeline" else 300
    encoder = masked_t5_encoder(source, length, clean=lower)
    return {"text": (projected(source, encoder, "caption_projection"),)}


def _ltx(source: Source) -> Streams:
    """Its T5 attends to padding, and the denoiser does not."""
    length = 256 if source.index.get("_class_name") == "LTXConditionPipeline" else 128
    encoder = replace(t5_encoder(source, "", length), padding=0)
    return {"text": (projected(source, encoder, "caption_projection"),)}


def _wan(source: Source) -> Streams:
    """The denoiser reads padding too: rows of zeros, which its text embedder makes one and the same row of."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    if source.config(source.family.second or ""):
        raise EditkitError(
            f"model {source.name}: has two denoisers, and each would need a map of its own, behind its own text "
            "embedder; editing both is not supported, use a Wan with one"
        )
    encoder = masked_t5_encoder(source, 512, padding=1, clean=prompt_clean, blank=True)
    return {"text": (projected(source, encoder, "condition_embedder.text_embedder"),)}


def _flux2(source: Source) -> Streams:
    if not str(source.index.get("_class_name")).startswith("Flux2Klein"):  # FLUX.2 dev reads a vision-language model
        raise _not_encoded(source)
    return {"text": (flux2_klein(source),)}


def _clips(source: Source, suffixes: tuple[str, ...], pooled: bool = True) -> list[tuple[Reader, ClipText]]:
    """Tokenizer and model of every CLIP text encoder. With `pooled`, those that project do."""
    if source.is_single_file:
        from editkit.model.checkpoints.single_file import read_text_encoders

        pairs = read_text_encoders(source.path, source.family.name, source.tokenizer)
    else:
        pairs = [
            (_clip_tokens(source, f"tokenizer{end}"), _clip(source, f"text_encoder{end}", pooled)) for end in suffixes
        ]
    if source.learned:
        pairs = [
            with_learned(*pair, {token: vectors[n] for token, vectors in source.learned.items()})
            for n, pair in enumerate(pairs)
        ]
    return [(reader_of(source, tokenizer, model.positions), model) for tokenizer, model in pairs]


def _clip_tokens(source: Source, component: str) -> Any:
    tokens = read_clip_tokens(source.path / component)
    if tokens is not None:
        return tokens
    from transformers import CLIPTokenizer

    return read(source, CLIPTokenizer, component)


def _clip(source: Source, component: str, pooled: bool) -> ClipText:
    # SDXL's first encoder is stored without a projection and read for its hidden states alone
    stated = source.index.get(component), source.config(component).get("architectures")
    projects = pooled and "WithProjection" in str(stated)
    try:
        return ClipText.of(source.config(component), stored_component(source, component), projects)
    except KeyError as error:
        raise EditkitError(
            f"model {source.name}: its {component} lacks {error.args[0]}, which its config.json asks for; "
            "do weights and configuration belong together?"
        ) from error


def _encoder(reader: Reader, states: States, width: int, mark: Mark, *beside: Reader) -> TextEncoder:
    length = min(each.limit for each in (reader, *beside))
    return TextEncoder(reader, states, width, length, lambda: f"{mark()}-states", beside=beside)


def _pooled(reader: Reader, states: States, width: int, mark: Mark) -> TextEncoder:
    return TextEncoder(reader, states, width, 1, lambda: f"{mark()}-pooled", pooled=True)


def _hash(*models: ClipText) -> Mark:
    """Of the values, read once when it is asked for: a folder and a single file of one model agree. Names are those of
    transformers, whose model with a projection wraps the one without."""
    reads: dict[str, Callable[[], Tensor]] = {}
    for n, model in enumerate(models):
        for name in model.tensors:
            wrapped = PROJECTION in model.tensors and name != PROJECTION
            reads[f"{n}.text_model.{name}" if wrapped else f"{n}.{name}"] = partial(model.tensors.__getitem__, name)
    return cache(lambda: fingerprint(Lazy(reads)))


ENCODERS: dict[str, Callable[[Source], Streams]] = {
    "sd1": _one_clip,
    "sd2": _one_clip,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux1": _flux,
    "chroma": _chroma,
    "auraflow": _auraflow,
    "pixart": _pixart,
    "ltx": _ltx,
    "wan": _wan,
    "cogview4": lambda source: {"text": (cogview4(source),)},
    "lumina2": lambda source: {"text": (lumina2(source),)},
    "sana": lambda source: {"text": (sana(source),)},
    "qwenimage": lambda source: {"text": (qwenimage(source),)},
    "flux2": _flux2,
}
"""Those that `editkit.model.families.table.ENCODED` names."""
