"""`closed-form`: rank the candidates by the damage that the weights' change does to them, run the first few exactly.

The damage measure is that of a closed-form edit (`editkit.edits.figures`): no pass of the denoiser is needed for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.tuning.search.exact import Exact, ExactFinder, Shortlist
from editkit.tuning.search.request import Ground, Projections, Request

FEW = 8


def damage(rows: Tensor, changes: Projections) -> Tensor:
    """`Σ ‖(W' − W) x‖² / Σ ‖W x‖²` of every prompt, summed over its rows and the layers, `(k,)`.

    Args:
        rows: embeddings of k prompts, `(k, tokens, width)`.
    """
    x = rows.flatten(0, 1).float()
    moved, whole = x.new_zeros(len(x)), x.new_zeros(len(x))
    for W, now in changes.values():
        moved += (x @ (now - W).float().T).square().sum(1)
        whole += (x @ W.float().T).square().sum(1)
    shape = rows.shape[:2]
    return moved.view(shape).sum(1) / whole.view(shape).sum(1)


@dataclass(frozen=True)
class ClosedForm(Exact):
    """Rank the candidates by what the change of the weights does to their rows; run the eight most damaged exactly."""

    name: ClassVar[str] = "closed-form"
    ranks_by_edit: ClassVar[bool] = True

    def begin(self, ground: Ground) -> ExactFinder:
        return ExactFinder(self, shortlist=most_damaged(ground))


def most_damaged(ground: Ground) -> Shortlist:
    """The `FEW` candidates that are most damaged now. Before the first step, and where the projections are not trained,
    nothing has changed: then a closed-form edit of the same concepts ranks them."""

    @torch.no_grad()
    def shortlist(request: Request, concept: int) -> Tensor:
        now = ground.projections()
        if all(W.equal(other) for W, other in now.values()):
            now = ground.edited
        ranked = damage(request.prompts.candidates[concept, :, 0], now)
        return ranked.topk(min(FEW, len(ranked))).indices.cpu()

    return shortlist
