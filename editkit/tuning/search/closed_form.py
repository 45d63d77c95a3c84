"""`closed-form`: rank the candidates by the damage that the weights' change does to them, run the first few exactly.

The damage measure is that of a closed-form edit (`editkit.edits.figures`): no pass of the denoiser is needed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.variant import TextStream
from editkit.tuning.search.exact import Exact, ExactFinder, Shortlist
from editkit.tuning.search.request import Ground, Projections, Request

FEW = 8


def damage(prompts: Condition, changes: Projections, streams: Mapping[str, TextStream]) -> Tensor:
    """`Σ ‖(W' − W) x‖² / Σ ‖W x‖²` of every prompt, summed over its rows and the layers, `(k,)`.

    Args:
        prompts: k of them, one a row.
        streams: of the denoiser. A pooled vector is one more row, which other layers read.
    """
    moved, whole = prompts.text.new_zeros(2, len(prompts), dtype=torch.float32)
    for field, stream in streams.items():
        rows = getattr(prompts, field).float()
        x = rows.view(len(prompts), -1, stream.width)
        for W, now in (changes[name] for name in stream.names):
            moved += (x @ (now - W)[:, : stream.width].float().T).square().sum((1, 2))
            whole += (x @ W[:, : stream.width].float().T).square().sum((1, 2))
    return moved / whole


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
        ranked = damage(request.prompts.candidates_of(concept), now, ground.streams)
        return ranked.topk(min(FEW, len(ranked))).indices.cpu()

    return shortlist
