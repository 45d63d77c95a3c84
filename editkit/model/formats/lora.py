"""`lora`: an edit as a LoRA in the layout of peft and diffusers, for `pipe.load_lora_weights`.

An edit of an unbiased projection is one: `ΔW = (W U) V` has a low rank already, so nothing is trained and nothing lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editkit.edits.low_rank import Decomposition
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel
from editkit.model.families.family import Family
from editkit.model.formats import save_tensors
from editkit.model.formats.format import FileFormat, WriteReport
from editkit.options import option

EXACT = 1e-7
"""Relative error up to which directions are left out of a full-rank file: that of float32."""

FAR_BELOW = 1e-10
"""The same for the map itself, before any layer is looked at: padding rows make most of its directions nil."""


@dataclass(frozen=True)
class LowRankFormat(FileFormat):
    """A format of two factors a layer."""

    rank: int | None = option(None, "Directions of every layer to keep; all, which is exact, if none.", at_least=1)

    def written(self, error: float) -> WriteReport:
        return WriteReport(error, "" if self.rank is None else "the cut")


@dataclass(frozen=True)
class LoRA(LowRankFormat):
    """LoRA for `pipe.load_lora_weights` of diffusers."""

    @classmethod
    def suits(cls, family: Family) -> bool:
        return family.name != "pixart"  # whose pipelines in diffusers load none

    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        return self.written(write(edit, weights, part, model.source.family.component, self.rank))


@dataclass(frozen=True)
class Layer:
    """`ΔW = up @ down` of one module; `up` `(o, r)`, `down` `(r, d)`, float32; of a convolution, `up` is `(o, r, 1, 1)`
    and `down` `(r, i, h, w)`."""

    up: Tensor
    down: Tensor


def write(
    edit: Variant, projections: Mapping[str, Tensor], part: Path, prefix: str = "unet", rank: int | None = None
) -> float:
    """Write `{prefix}.{module}.lora_A.weight` (down) and `.lora_B.weight` (up); returns the error made, see `factors`.

    `prefix` is the pipeline's component: `unet` or `transformer`.
    """
    layers, error = factors(edit, projections, rank)
    tensors = {}
    for module, layer in layers.items():
        tensors[f"{prefix}.{module}.lora_A.weight"] = layer.down
        tensors[f"{prefix}.{module}.lora_B.weight"] = layer.up
    save_tensors(tensors, part)
    return error


def factors(
    edit: Variant, projections: Mapping[str, Tensor], rank: int | None = None
) -> tuple[dict[str, Layer], float]:
    """`ΔW` of every edited projection as two factors, and the error made.

    All layers have one rank: readers disagree on what scale a file means whose layers differ in it. A layer that needs
    less is filled up with zeros. Singular values are split evenly between the factors, so that float16 holds both.

    Args:
        rank: keep that many directions of each layer, the best in the least-squares sense. Default: all.

    Returns:
        Module name → factors, and the largest `‖ΔW − ΔW'‖_F / ‖ΔW‖_F` of a layer, before rounding to float32.

    Raises:
        EditkitError: a rank below 1, an edit that changes none of the projections or does not fit them.
    """
    if rank is not None and rank < 1:
        raise EditkitError(f"--rank: expected at least 1, got {rank}; leave it out for an exact file")
    if not edit.is_low_rank:
        raise EditkitError(
            "whole tensors were trained, which is no LoRA; export as kv, diffusers or single-file, "
            "or refine again with --param lora:16"
        )
    split = _decompositions(edit, projections)
    if not split:
        raise EditkitError("the edit changes none of this model's projections; there is nothing to write as a LoRA")
    used = max(_needed(sizes) for _, sizes, _ in split.values())
    used = used if rank is None else min(rank, used)
    error = max(float(sizes[used:].norm() / sizes.norm()) for _, sizes, _ in split.values())
    layers = {name: _layer(*parts, used) for name, parts in split.items()}
    return {name.removesuffix(".weight"): _shaped(layer, projections[name]) for name, layer in layers.items()}, error


def _decompositions(edit: Variant, projections: Mapping[str, Tensor]) -> dict[str, Decomposition]:
    """Singular value decomposition of each `ΔW` that is not nil."""
    changed = {name: change.svd() for name, change in edit.low_rank(projections, error=FAR_BELOW).items()}
    return {name: svd for name, svd in changed.items() if svd[1].numel() and float(svd[1][0]) > 0}


def _needed(sizes: Tensor) -> int:
    """How many directions it takes until the rest is nil in float32."""
    left_out = sizes.square().flip(0).cumsum(0).flip(0).sqrt() / sizes.norm()
    return int((left_out > EXACT).sum())


def _shaped(layer: Layer, W: Tensor) -> Layer:
    """A convolution's factors are convolutions: one of its size, then one of size 1."""
    if W.ndim == 2:
        return layer
    return Layer(layer.up[:, :, None, None], layer.down.view(-1, *W.shape[1:]))


def _layer(left: Tensor, sizes: Tensor, right: Tensor, rank: int) -> Layer:
    half = sizes[:rank].sqrt()
    more = rank - len(half)
    up = torch.nn.functional.pad(left[:, :rank] * half, (0, more))
    down = torch.nn.functional.pad(half[:, None] * right[:rank], (0, 0, 0, more))
    return Layer(up.float(), down.float())
