"""The text-side projections of a model: the layers that read the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.checkpoints.numbers import check_config, open_weights
from editkit.model.checkpoints.single_file import read_named_ldm, read_projections_ldm
from editkit.model.checkpoints.source import Source
from editkit.model.encoder_weights import encoder_weight, encoders_of
from editkit.model.families.family import Family, rule_for

HASHED_AT_ONCE = 2**22
"""Numbers: all of a table of tokens in float16 would be hundreds of megabytes."""


def is_text_projection(family: Family, name: str) -> bool:
    """Whether the tensor `name` of a denoiser is the weight of a projection that a rule of `family` names."""
    return name.endswith(".weight") and rule_for(family, name) is not None


def read_projections(source: Source) -> Lazy[Tensor]:
    """Tensor name as in diffusers → `W` `(o, d)`, each read when it is looked at: neither all of them nor the rest of
    the checkpoint are ever in memory.

    In the dtype of the checkpoint where that is plain, else in float32: see `editkit.model.checkpoints.numbers`.
    """
    if source.is_single_file:
        return _sorted(read_projections_ldm(source.path))
    family = source.family
    projections = stored_component(source, family.component, lambda name: is_text_projection(family, name))
    if not projections:
        modules = ", ".join(rule.label for rule in family.rules)
        raise EditkitError(
            f"model {source.name}: expected projections of the prompt ({modules}) in its {family.component}, found none"
        )
    return _sorted(projections)


def read_named(source: Source, names: Collection[str]) -> dict[str, Tensor]:
    """Tensors of the denoiser by diffusers' names, and of text encoders by those of `encoder_weight`.

    Raises:
        EditkitError: one of them is not there, or is a text encoder's in a single file.
    """
    wanted, encoders = set(names), encoders_of(names)
    if source.is_single_file:
        if encoders:
            raise EditkitError(
                f"model {source.name}: {encoders[0]} was trained in a diffusers folder, this is a single file; use the "
                "model that was refined"
            )
        return read_named_ldm(source.path, sorted(wanted), source.family.name)
    tensors = read_component(source, source.family.component, wanted.__contains__)
    for component in encoders:
        tensors |= read_encoder(source, component, wanted.__contains__)
    missing = sorted(wanted - set(tensors))
    if missing:
        part = next(iter(encoders_of(missing[:1])), source.family.component)
        raise EditkitError(
            f"model {source.name}: expected a tensor {missing[0]} in its {part}, found none; use the model that was "
            "refined"
        )
    return dict(sorted(tensors.items()))


def read_encoder(
    source: Source, component: str, wanted: Callable[[str], bool] = lambda _: True
) -> dict[str, Tensor]:  # fmt: skip
    """Tensors of a folder's text encoder, named as by `encoder_weight`."""
    stored = stored_component(source, component, lambda name: wanted(encoder_weight(component, name)))
    return {encoder_weight(component, name): tensor for name, tensor in stored.items()}


def stored_tensors(path: Path, wanted: Callable[[str], bool]) -> Lazy[Tensor]:
    """The tensors of a safetensors file whose names `wanted` accepts, as plain numbers, read when they are looked at.

    Raises:
        EditkitError: no safetensors file, or one of them is quantised.
    """
    with open_weights(path) as opened:
        names = [name for name in opened.names if wanted(name)]
        for name in names:
            opened.is_plain(name)  # what is quantised is refused now, not in the middle of an edit
        return Lazy({name: partial(opened.read, name) for name in names})


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The same, all at once."""
    return dict(stored_tensors(path, wanted))


def stored_component(source: Source, component: str, wanted: Callable[[str], bool] = lambda _: True) -> Lazy[Tensor]:
    """Tensors of a folder's component, from all its shards, read when they are looked at.

    Raises:
        EditkitError: as `stored_tensors`, or its configuration says that it is quantised.
    """
    check_config(source.config(component), source.path / component / "config.json")
    shards = [stored_tensors(path, wanted) for path in source.weights(component)]
    return Lazy({name: partial(shard.__getitem__, name) for shard in shards for name in shard})


def read_component(source: Source, component: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """The same, all at once."""
    return dict(stored_component(source, component, wanted))


def is_plain(source: Source, component: str) -> bool:
    """Whether all weights of a folder's component are plain numbers as they lie there, from the headers alone; False
    for float8, which `read_component` reads.

    Raises:
        EditkitError: they are quantised.
    """
    check_config(source.config(component), source.path / component / "config.json")
    plain = True
    for path in source.weights(component):
        with open_weights(path) as opened:
            plain = all([opened.is_plain(name) for name in opened.names]) and plain
    return plain


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and values, in the order of the names, one after another.

    Values are taken in float16: a checkpoint and its half-precision copy are the same model.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        for part in tensors[name].reshape(-1).split(HASHED_AT_ONCE):
            digest.update(part.half().contiguous().view(dtype=torch.uint8).numpy().data)
    return digest.hexdigest()


def _sorted(tensors: Mapping[str, Tensor]) -> Lazy[Tensor]:
    return Lazy.of(tensors, {name: name for name in sorted(tensors)})
