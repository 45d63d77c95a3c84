"""UCE: Unified Concept Editing (Gandikota et al. 2024), in the space of text embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.solve import Penalty, down_factor, solve


def uce(C: Tensor, targets: Tensor, penalty: Penalty, erase_scale: float = 1.0) -> EditMap:
    """Send `C` to `targets` (UCE Eq. 7), technique "replace": `v* = W c*`. One map serves every layer."""
    return solve(C, targets, penalty, erase_scale)


def uce_tensor(
    concepts: Sequence[tuple[Tensor, Tensor]],
    penalty: Penalty,
    grams: Mapping[str, Tensor],
    erase_scale: float = 1.0,
) -> dict[str, EditMap]:
    """Technique "tensor": the target is `W c*` less its component along `W c`.

    The component's size is one number per concept and layer, `α = ⟨W c*, W c⟩ / ‖W c‖²` with the norm over all rows
    of the concept together. So the target is `W (c* − α c)`: each layer has its own `U`, and `V` stays shared.

    Args:
        concepts: `(C, C*)` of each concept, both `(n, d)`.
        grams: layer name → `WᵀW` `(d, d)`.
    """
    C = torch.cat([source for source, _ in concepts]).double()
    shared = down_factor(C, penalty, erase_scale)
    maps = {}
    for layer, gram in grams.items():
        moves = [_without_component(target.double(), source.double(), gram) - source for source, target in concepts]
        maps[layer] = EditMap(erase_scale * torch.cat(moves).T, shared).compact()
    return maps


def _without_component(target: Tensor, source: Tensor, gram: Tensor) -> Tensor:
    metric = source @ gram
    return target - (target * metric).sum() / (source * metric).sum() * source
