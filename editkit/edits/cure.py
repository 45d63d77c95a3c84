"""CURE: take a concept's directions out of the embeddings, but for what others need of them (2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.method import Method
from editkit.edits.problem import Problem
from editkit.edits.solve import Penalty
from editkit.errors import EditkitError
from editkit.options import option


@dataclass(frozen=True)
class CURE(Method):
    """Take the directions of a concept out of the embeddings, each the more the more of the concept lies along it, but
    for what the preserved prompts and the protected words have there. A concept becomes less, and nothing in its place.
    """

    source: ClassVar[str] = "CURE 2025 (arXiv 2505.12677), spectral expansion and projectors"

    lamb: float = option(0.1, "Without effect.", shown=False)
    erase_scale: float = option(1.0, "Without effect.", shown=False)
    alpha: float = option(
        2.0, "Strength: 1 takes out each direction by its share of the energy, more takes more.", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard:
            raise EditkitError("--hard: sends a concept to its guide, and --method cure to none; use --method uce")

    def map(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        return cure(problem.C, penalty, self.alpha)


def cure(C: Tensor, penalty: Penalty, alpha: float = 2.0) -> EditMap:
    """`M = I − P_f + P_f P_r`: forget the concepts' directions, and retain the others'.

    `P = V diag(f) Vᵀ` from the singular vectors of the rows, `f_i = α r_i / ((α − 1) r_i + 1)` with `r_i` the share of
    a direction in the energy. With a single row `f = 1`, and what nothing retains of it is gone: `M` is singular.

    The rows of a text encoder share a mean, which is then the first direction of every concept: without a vocabulary to
    retain it, it is erased first.

    Args:
        C: the concepts' rows, `(n, d)`.
        penalty: its rows and prior are what is retained; its ridge has no part here.
        alpha: α, the strength of both projectors.
    """
    _, sizes, V = torch.linalg.svd(C.double(), full_matrices=False)
    f = _expanded(sizes.square(), alpha)
    moment = penalty.rows.T @ penalty.rows + (0 if penalty.prior is None else penalty.prior)
    values, Q = torch.linalg.eigh(moment)
    kept = (Q * _expanded(values.clamp(min=0), alpha)) @ Q.T
    read = V - V @ kept
    if (N := penalty.allowed) is not None:
        read = read @ N @ N.T
    return EditMap(-V.T * f, read)


def _expanded(energies: Tensor, alpha: float) -> Tensor:
    total = energies.sum()
    if total == 0:
        return energies
    shares = energies / total
    return alpha * shares / ((alpha - 1) * shares + 1)
