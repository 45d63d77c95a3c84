"""The second moments of rows and targets: all that an edit needs to know of more rows than dimensions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.gram import second_moment, square_root

AT_ONCE = 8192
"""Rows that are widened to float64 at a time: of a thousand concepts all would take gigabytes."""
CANCELLED = 1e-6
"""Shares of a sum below which the difference of two such sums has lost half of its digits."""

Pair = tuple[Tensor, Tensor]
"""Rows and targets, `(n, d)` each."""


@dataclass(frozen=True)
class Moments:
    """Sums over rows `c` and their targets `c*`, `(d, d)` float64 each.

    Attributes:
        sources: `Σ c cᵀ`, or `CᵀC`.
        crossed: `C*ᵀC`.
        targets: `C*ᵀC*`.
    """

    sources: Tensor
    crossed: Tensor
    targets: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair], d: int) -> Moments:
        """Those of all pairs, a few at a time. What concepts with one target have in common is multiplied once."""
        uses = Counter(id(target) for _, target in pairs)
        shared = {id(target): target for _, target in pairs if uses[id(target)] > 1}
        device = pairs[0][0].device if pairs else None
        sources = torch.zeros(d, d, dtype=torch.float64, device=device)
        crossed, targets = torch.zeros_like(sources), torch.zeros_like(sources)
        sums = {key: torch.zeros_like(target, dtype=torch.float64) for key, target in shared.items()}
        for C, T in in_chunks((C, T) for C, T in pairs if id(T) not in shared):
            sources += second_moment(C)
            crossed += T.T @ C
            targets += second_moment(T)
        for C, _ in in_chunks((C, T[:0]) for C, T in pairs if id(T) in shared):
            sources += second_moment(C)
        for C, T in pairs:
            if id(T) in shared:
                sums[id(T)] += C
        for key, T in shared.items():
            crossed += T.double().T @ sums[key]
            targets += uses[key] * second_moment(T.double())
        return cls(sources, crossed, targets)

    def plus(self, other: Moments) -> Moments:
        """Those of the rows of both."""
        return Moments(self.sources + other.sources, self.crossed + other.crossed, self.targets + other.targets)

    @cached_property
    def rows(self) -> Tensor:
        """`R` `(d, d)` with `RᵀR = CᵀC`: it stands for the rows where only sums over them are asked for."""
        return square_root(self.sources)

    def left(self, M: Tensor, gram: Tensor) -> float | None:
        """`sqrt(Σ ‖W (M c − c*)‖²)`; None where so little is left that its digits are lost.

        Args:
            M: `(d, d)`.
            gram: `Σ WᵀW`, `(d, d)`.
        """
        moved = float((gram * (M @ self.sources @ M.T)).sum())
        wanted = float((gram * self.targets).sum())
        both = float((gram * (self.crossed @ M.T)).sum())
        square = moved + wanted - 2 * both
        return square**0.5 if square > CANCELLED * max(moved, wanted) else None


def in_chunks(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The same rows as float64, some `AT_ONCE` at a time."""
    waiting: list[Pair] = []
    for pair in pairs:
        waiting.append(pair)
        if sum(len(C) for C, _ in waiting) >= AT_ONCE:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(pairs: list[Pair]) -> Pair:
    C, targets = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    return C, targets
