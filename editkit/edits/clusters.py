"""Lloyd's k-means, the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 10


def centres_of(rows: Tensor, count: int) -> Tensor:
    """`count` centres of rows `(n, d)`, or all of them where there are no more; starts from every n-th row."""
    if len(rows) <= count:
        return rows
    centres = rows[torch.linspace(0, len(rows) - 1, count).long()]
    for _ in range(ROUNDS if count else 0):
        own = torch.cdist(rows, centres).argmin(1)
        centres = torch.stack([rows[own == k].mean(0) if (own == k).any() else centres[k] for k in range(count)])
    return centres
