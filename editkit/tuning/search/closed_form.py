"""`closed-form`: rank the candidates by the damage that the weights' change does to them, run the first few exactly.

The damage measure is that of a closed-form edit (`editkit.edits.figures`): no pass of the denoiser is needed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from editkit.tuning.search.exact import Exact
from editkit.tuning.search.request import Request

FEW = 8
Changes = Callable[[], Mapping[str, tuple[Tensor, Tensor]]]
"""Keys' and values' projections: name → (untrained, now)."""


def damage(rows: Tensor, changes: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
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


def closed_form_search(every: int, changes: Changes, fallback: Mapping[str, tuple[Tensor, Tensor]]) -> Exact:
    """`Exact` on the `FEW` candidates that are most damaged.

    Args:
        changes: the projections now. Before the first step, and where they are not trained, nothing has changed:
        fallback: then the projections of a closed-form edit of the same concepts rank the candidates.
    """

    @torch.no_grad()
    def shortlist(request: Request, concept: int) -> Tensor:
        now = changes()
        if all(W.equal(other) for W, other in now.values()):
            now = fallback
        ranked = damage(request.prompts.candidates[concept, :, 0], now)
        return ranked.topk(min(FEW, len(ranked))).indices.cpu()

    return Exact(every, shortlist=shortlist)
