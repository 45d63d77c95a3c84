"""The text-side projections of a model: the layers that read the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.model.checkpoints.numbers import check_config, open_weights
from editkit.model.checkpoints.single_file import read_named_ldm, read_projections_ldm
from editkit.model.checkpoints.source import Source
from editkit.model.families.family import Family, rule_for


def is_text_projection(family: Family, name: str) -> bool:
    """Whether the tensor `name` of a denoiser is the weight of a projection that a rule of `family` names."""
    return name.endswith(".weight") and rule_for(family, name) is not None


def read_projections(source: Source) -> dict[str, Tensor]:
    """Tensor name as in diffusers → `W` `(o, d)`, read one by one: the rest of the checkpoint is never in memory.

    In the dtype of the checkpoint where that is plain, else in float32: see `editkit.model.checkpoints.numbers`.
    """
    if source.is_single_file:
        return dict(sorted(read_projections_ldm(source.path).items()))
    family = source.family
    projections = read_component(source, family.component, lambda name: is_text_projection(family, name))
    if not projections:
        modules = ", ".join(rule.label for rule in family.rules)
        raise EditkitError(
            f"model {source.name}: expected projections of the prompt ({modules}) in its {family.component}, found none"
        )
    return dict(sorted(projections.items()))


def read_named(source: Source, names: Collection[str]) -> dict[str, Tensor]:
    """Tensors of the denoiser by diffusers' names.

    Raises:
        EditkitError: one of them is not there.
    """
    wanted = set(names)
    if source.is_single_file:
        return read_named_ldm(source.path, sorted(wanted), source.family.name)
    tensors = read_component(source, source.family.component, wanted.__contains__)
    missing = sorted(wanted - set(tensors))
    if missing:
        raise EditkitError(
            f"model {source.name}: expected a tensor {missing[0]} in its {source.family.component}, found none; "
            "use the model that was refined"
        )
    return dict(sorted(tensors.items()))


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names `wanted` accepts, as plain numbers.

    Raises:
        EditkitError: no safetensors file, or one of them is quantised.
    """
    with open_weights(path) as opened:
        return {name: opened.read(name) for name in opened.names if wanted(name)}


def read_component(source: Source, component: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """Tensors of a folder's component, from all its shards.

    Raises:
        EditkitError: as `read_tensors`, or its configuration says that it is quantised.
    """
    check_config(source.config(component), source.path / component / "config.json")
    return {name: tensor for path in source.weights(component) for name, tensor in read_tensors(path, wanted).items()}


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


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names and values, in the order of the names.

    Values are taken in float16: a checkpoint and its half-precision copy are the same model.
    """
    return fingerprint_in_order(sorted(tensors, key=lambda item: item[0]))


def fingerprint_in_order(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """`fingerprint` of what comes in the order of the names, one tensor at a time."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        tensor = tensor.half()
        digest.update(tensor.contiguous().view(-1).view(dtype=torch.uint8).numpy().data)
    return digest.hexdigest()
