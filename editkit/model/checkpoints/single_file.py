"""Read what an edit needs of a single-file checkpoint: its text projections and its text encoders, nothing else.

SD 1.x, SD 2.x and SDXL as WebUI and ComfyUI use them, with and without the `model.diffusion_model.` prefix, in any
dtype of safetensors. The names are in `editkit.model.checkpoints.ldm_names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from editkit.embeddings.clip_text import PROJECTION, ClipText
from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.checkpoints.ldm_names import UNET_PREFIX, LdmFamily, diffusers_name, ldm_family, to_diffusers, to_ldm
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.numbers import Weights, open_weights

__all__ = [
    "LdmEncoder", "LdmFamily", "is_checkpoint", "ldm_family", "read_family", "read_named_ldm", "read_projections_ldm",
    "read_text_encoders", "to_diffusers", "to_ldm",
]  # fmt: skip

HEAD_WIDTH = 64
"""Of every CLIP text encoder: a file has no config, so the number of heads comes from the width."""

VIT_H_LAYERS = 24
"""Of SD 2.x's text encoder. The pipeline reads the penultimate one, so the last is dropped, if it is there at all:
checkpoints converted from diffusers hold 23."""


@dataclass(frozen=True)
class LdmEncoder:
    """How a text encoder stands in the file, and what the released pipelines take of it."""

    prefix: str
    open_clip: bool = False
    penultimate: bool = False
    projection: bool = False


ENCODERS: Mapping[str, tuple[LdmEncoder, ...]] = {
    "sd1": (LdmEncoder("cond_stage_model.transformer."),),
    "sd2": (LdmEncoder("cond_stage_model.model.", open_clip=True, penultimate=True),),
    "sdxl": (
        LdmEncoder("conditioner.embedders.0.transformer."),
        LdmEncoder("conditioner.embedders.1.model.", open_clip=True, projection=True),
    ),
}


def read_family(path: Path | str) -> LdmFamily:
    """`ldm_family` of a file, from its header alone."""
    with open_weights(path) as opened:
        return _family(opened)


def is_checkpoint(path: Path) -> bool:
    """Whether it is a file that `read_family` knows."""
    try:
        return bool(read_family(path))
    except EditkitError:
        return False


def read_projections_ldm(path: Path | str) -> Lazy[Tensor]:
    """diffusers' tensor name → `W` `(o, d)`, each read when it is looked at; for SDXL with the pooled projection.

    In its own dtype where that is plain, else in float32: see `editkit.model.checkpoints.numbers`.

    Raises:
        EditkitError: not readable, no such checkpoint, quantised, or without text projections.
    """
    with open_weights(path) as opened:
        family = _family(opened)
        names = {diffusers_name(name, family): name for name in opened.names}
        tensors = _stored(opened, {name: names[name] for name in sorted(filter(None, names))})
    if not tensors:
        raise EditkitError(f"{path}: no text projections (attn2.to_k, attn2.to_v) in it; is it a whole checkpoint?")
    return tensors


def read_named_ldm(path: Path | str, names: Sequence[str], family: str) -> dict[str, Tensor]:
    """UNet tensors by diffusers' names.

    Raises:
        EditkitError: not readable, or one of them is not there.
    """
    with open_weights(path) as opened:
        held = set(opened.names)
        own = {name: next((n for n in (UNET_PREFIX + ldm_name(name, family), ldm_name(name, family)) if n in held), "")
               for name in names}  # fmt: skip
        missing = next((name for name, stored in own.items() if not stored), None)
        if missing is not None:
            raise EditkitError(f"{path}: expected the UNet's {missing}, found none; use the model that was refined")
        return {name: opened.read(stored) for name, stored in own.items()}


def read_text_encoders(
    path: Path | str, family: str, tokenizer_folder: Path | None = None
) -> list[tuple[Any, ClipText]]:
    """`(tokenizer, model)` of each text encoder: one, for SDXL two.

    A checkpoint holds no tokenizer: it is CLIP's, unless `tokenizer_folder` gives another.

    Raises:
        EditkitError: the file lacks the encoder or a tensor of it, or the tokenizer has more tokens than it.
    """
    if family not in ENCODERS:
        raise EditkitError(f"family {family!r}: single files must be of {', '.join(ENCODERS)}; give a diffusers folder")
    encoders = []
    for encoder in ENCODERS[family]:
        model = _model(_read_encoder(Path(path), encoder), encoder, Path(path))
        encoders.append((_tokenizer(tokenizer_folder, encoder, model), model))
    return encoders


def _family(opened: Weights) -> LdmFamily:
    return ldm_family(opened.shapes, opened.path)


def _stored(opened: Weights, names: Mapping[str, str]) -> Lazy[Tensor]:
    """New name → the tensor that the file has under the other; what is quantised is refused at once."""
    for name in names.values():
        opened.is_plain(name)
    return Lazy({new: partial(opened.read, name) for new, name in names.items()})


def _read_encoder(path: Path, encoder: LdmEncoder) -> Lazy[Tensor]:
    """The encoder's tensors with the names of `CLIPTextModel`, and `text_projection.weight`."""
    with open_weights(path) as opened:
        names = [name for name in opened.names if name.startswith(encoder.prefix)]
        tensors = _stored(opened, {name.removeprefix(encoder.prefix): name for name in names})
    if not tensors:
        raise EditkitError(
            f"{path}: no text encoder in it, expected tensors named {encoder.prefix}…; give a whole checkpoint"
        )
    return _from_open_clip(tensors, encoder.penultimate) if encoder.open_clip else tensors


_OPEN_CLIP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _from_open_clip(tensors: Mapping[str, Tensor], penultimate: bool) -> Lazy[Tensor]:
    """OpenCLIP's names: query, key and value lie in one tensor, and the projection is stored transposed."""
    read = tensors.__getitem__
    renamed: dict[str, Callable[[], Tensor]] = {
        new: partial(read, old) for old, new in _OPEN_CLIP.items() if old in tensors
    }
    if "text_projection" in tensors:
        renamed[PROJECTION] = lambda: tensors["text_projection"].T.contiguous()
    blocks = [at for name in tensors if (at := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name))]
    kept = used_layers(1 + max((int(at[1]) for at in blocks), default=0), penultimate)
    for at in blocks:
        if int(at[1]) >= kept:
            continue
        layer, (part, kind) = f"encoder.layers.{at[1]}.", re.split(r"[._](?=weight$|bias$)", at[2])
        if part == "attn.in_proj":
            for third, letter in enumerate("qkv"):
                renamed[f"{layer}self_attn.{letter}_proj.{kind}"] = partial(_third, tensors, at[0], third)
        elif part in _OPEN_CLIP_BLOCK:
            renamed[f"{layer}{_OPEN_CLIP_BLOCK[part]}.{kind}"] = partial(read, at[0])
    return Lazy(renamed)


def _third(tensors: Mapping[str, Tensor], name: str, n: int) -> Tensor:
    return tensors[name].chunk(3)[n]


def used_layers(stored: int, penultimate: bool) -> int:
    """How many of the `stored` layers the pipeline runs."""
    return stored - 1 if penultimate and stored != VIT_H_LAYERS - 1 else stored


def _model(tensors: Mapping[str, Tensor], encoder: LdmEncoder, path: Path) -> ClipText:
    """With the released configuration, and sizes from the tensors. End token 2 means "the highest id": that is what the
    released configurations say."""
    layers = [re.search(r"encoder\.layers\.(\d+)\.", name) for name in tensors]
    config = {
        "num_hidden_layers": 1 + max((int(at[1]) for at in layers if at), default=0),
        "hidden_act": "gelu" if encoder.open_clip else "quick_gelu",
        "eos_token_id": 2,
    }
    try:
        model = ClipText.of(config, tensors, encoder.projection)
    except KeyError as error:
        lacking = f"its text encoder ({encoder.prefix}…) lacks {error.args[0]}"
        raise EditkitError(f"{path}: {lacking}; was it pruned? give a whole checkpoint") from error
    return replace(model, heads=max(1, model.width // HEAD_WIDTH))


def _tokenizer(folder: Path | None, encoder: LdmEncoder, model: ClipText) -> Any:
    """CLIP's tokenizer or the folder's, padded as the released pipelines pad: OpenCLIP's encoders with `!`, id 0."""
    from transformers import CLIPTokenizer

    from editkit.embeddings.clip_bpe import END, clip_tokenizer

    pad_token = "!" if encoder.open_clip else END
    if folder is None:
        tokenizer = clip_tokenizer(pad_token)
    else:
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder, pad_token=pad_token)
        except Exception as error:  # transformers raises whatever its readers raise
            raise EditkitError(f"{folder}: no tokenizer can be read from it ({error}); check the folder") from error
    if len(tokenizer) > model.vocabulary:
        raise EditkitError(
            f"the tokenizer has {len(tokenizer):,} tokens, but the checkpoint's text encoder knows "
            f"{model.vocabulary:,}; give the folder of the tokenizer that it was trained with"
        )
    return tokenizer
