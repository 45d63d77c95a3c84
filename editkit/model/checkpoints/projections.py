"""The text-side projections of a model: the layers that read the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.model.checkpoints.single_file import open_tensors, read_named_ldm, read_projections_ldm
from editkit.model.checkpoints.source import Source
from editkit.model.families.family import Family, rule_for


def is_text_projection(family: Family, name: str) -> bool:
    """Whether the tensor `name` of a denoiser is the weight of a projection that a rule of `family` names."""
    return name.endswith(".weight") and rule_for(family, name) is not None


def read_projections(source: Source) -> dict[str, Tensor]:
    """Tensor name as in diffusers → `W` `(o, d)`, read one by one: the rest of the checkpoint is never in memory."""
    if source.is_single_file:
        return dict(sorted(read_projections_ldm(source.path).items()))
    family = source.family
    found: dict[str, Tensor] = {}
    for path in source.weights(family.component):
        found |= read_tensors(path, lambda name: is_text_projection(family, name))
    if not found:
        modules = ", ".join(rule.label for rule in family.rules)
        raise EditkitError(
            f"model {source.name}: expected projections of the prompt ({modules}) in its {family.component}, found none"
        )
    return dict(sorted(found.items()))


def read_named(source: Source, names: Collection[str]) -> dict[str, Tensor]:
    """Tensors of the denoiser by diffusers' names.

    Raises:
        EditkitError: one of them is not there.
    """
    wanted = set(names)
    if source.is_single_file:
        return read_named_ldm(source.path, sorted(wanted), source.family.name)
    found: dict[str, Tensor] = {}
    for path in source.weights(source.family.component):
        found |= read_tensors(path, wanted.__contains__)
    missing = sorted(wanted - set(found))
    if missing:
        raise EditkitError(
            f"model {source.name}: expected a tensor {missing[0]} in its {source.family.component}, found none; "
            "use the model that was refined"
        )
    return dict(sorted(found.items()))


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names `wanted` accepts."""
    with open_tensors(path) as opened:
        return {name: opened.get_tensor(name) for name in opened.offset_keys() if wanted(name)}


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names and values, in the order of the names.

    Values are taken in float16: a checkpoint and its half-precision copy are the same model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(name.encode())
        tensor = tensor.half()
        digest.update(tensor.contiguous().view(-1).view(dtype=torch.uint8).numpy().data)
    return digest.hexdigest()
