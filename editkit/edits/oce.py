"""OCE: in every layer, turn a concept's values round and let those of the others be (ICML 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.method import (
    CAPTIONS_HELP,
    LAYERS,
    LAYERS_HELP,
    PROTECT_HELP,
    RIDGE_HELP,
    ROWS_HELP,
    STRENGTH_HELP,
    TOKENS,
    UNPROTECTED,
    Layers,
    Method,
    Tokens,
)
from editkit.edits.problem import Problem
from editkit.edits.protect import prior
from editkit.edits.solve import Penalty
from editkit.errors import EditkitError
from editkit.options import option

READ = 1e-7
"""Singular values of a projection, in shares of the largest, below which it reads nothing."""
SAME = 1e-12
"""Singular values, in shares of the largest, that no rotation is unique with."""


@dataclass(frozen=True)
class OCE(Method):
    """Rotate the values of each layer: what the concept has and its guide has not turns round, all else stays as far as
    it is held. Lengths and angles of values stay.
    """

    source: ClassVar[str] = "OCE (ICML 2026, arXiv 2605.28902)"
    takes_found: ClassVar[bool] = False

    protect: str = option("prior", PROTECT_HELP, choices=("prior", "none"))
    tokens: Tokens = option("last", ROWS_HELP, choices=TOKENS)
    layers: Layers = option("v", LAYERS_HELP, choices=LAYERS)
    lamb: float = option(0.1, RIDGE_HELP, above=0, otherwise={UNPROTECTED: 10.0})
    erase_scale: float = option(250.0, "Weight of the erased concepts.", above=0, otherwise={UNPROTECTED: 2000.0})
    strength: float = option(10.0, STRENGTH_HELP, at_least=0)
    prior_strength: float = option(10.0, CAPTIONS_HELP, at_least=0)
    basis: float = option(
        0.1,
        "OCE: sums of a concept's values that are shorter than this share of the longest are not turned.",
        at_least=0,
        otherwise={UNPROTECTED: 1e-3},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hard", "perturb"):
            if getattr(self, name):
                raise EditkitError(f"--{name}: --method oce rotates the values of each layer; use --method uce with it")

    @property
    def reads_projections(self) -> bool:
        return True

    @property
    def holds_each_word(self) -> bool:
        """Not: what is near a concept turns with it, and nothing grows."""
        return False

    def maps(self, problem: Problem, penalty: Penalty, erase_scale: float) -> tuple[Mapping[str, EditMap], Penalty]:
        if problem.found:
            raise EditkitError("--method oce: turns the rows of concepts alone, not of found prompts; use --method uce")
        if self.is_protected and problem.protected is not None:
            penalty = prior(problem.protected, penalty, self.strength)
        held = penalty.matrix()
        return {
            name: turned(W, problem.C, problem.targets, held, self.erase_scale, self.basis)
            for name, W in problem.projections.items()
        }, penalty


def turned(W: Tensor, C: Tensor, targets: Tensor, held: Tensor, erase_scale: float, basis: float = 1e-3) -> EditMap:
    """The map `M` with `W M = R W`, `R` the rotation with the largest `tr(RᵀA)`:

        A = −s_e E Eᵀ (I − E* E*ᵀ) + W B Wᵀ

    The second term pulls `R` to the identity, the first turns each direction of the concept, so far as it is none of
    its guide, to its opposite.

    `A` maps the range of `W` to itself, and so does `R`; so `M = W⁺ R W` is exact however many outputs there are, and
    an isometry of `WᵀW`. With `W = P σ Qᵀ` all is solved in the coordinates of `P`.

    Args:
        W: `(o, d)`.
        C, targets: rows of the concepts and what they become, `(n, d)`; only the directions of their values count.
        held: `B = s_c Σ p pᵀ + s_g C_g + λ I`, `(d, d)`: what stays.
        erase_scale: `s_e`.
        basis: see `directions`.

    Raises:
        EditkitError: the rotation is not unique.
    """
    _, sizes, inputs = torch.linalg.svd(W.double(), full_matrices=False)
    rank = int((sizes > READ * sizes[0]).sum())
    if not rank:
        return EditMap.identity(W.shape[1], W.device)
    reads = sizes[:rank, None] * inputs[:rank]
    E, guide = directions(C.double() @ reads.T, basis), directions(targets.double() @ reads.T, basis)
    A = reads @ held @ reads.T - erase_scale * E @ (E.T - (E.T @ guide) @ guide.T)
    # More outputs than it reads: what the others do is free, so a reflection is a part of some rotation.
    R = nearest_orthogonal(A, proper=rank == len(W))
    R.diagonal().sub_(1)
    return EditMap((inputs[:rank].T / sizes[:rank]) @ R, reads)


def directions(rows: Tensor, basis: float = 1e-3) -> Tensor:
    """An orthonormal basis `(o, k)` of rows `(n, o)`, each of which counts the same.

    Args:
        basis: singular values, in shares of the largest, that are left out.
    """
    lengths = rows.norm(dim=1, keepdim=True)
    left, sizes, _ = torch.linalg.svd((rows / lengths.clamp(min=1e-300)).T, full_matrices=False)
    return left[:, : int((sizes > max(basis, 1e-10) * sizes[0]).sum())]


def nearest_orthogonal(A: Tensor, proper: bool = False) -> Tensor:
    """The orthogonal `R` with the largest `tr(RᵀA)`: `U Vᵀ` of `A = U Σ Vᵀ`.

    Where that is a reflection, the best rotation has the last column of `U` negated (Kabsch), at a cost of `2 σ_min`.
    The paper's code negates the last column of `R` instead, which is worse.

    Args:
        A: `(n, n)`.
        proper: a rotation, of determinant 1.

    Raises:
        EditkitError: `A` is singular: many are as good.

    >>> A = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    >>> nearest_orthogonal(A).tolist(), nearest_orthogonal(A, proper=True).tolist()
    ([[1.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    left, sizes, right = torch.linalg.svd(A)
    if sizes[-1] <= SAME * sizes[0]:
        raise EditkitError("the rotation is not unique: its matrix is singular; use a larger --lamb")
    if proper and bool(torch.linalg.slogdet(left @ right).sign < 0):
        left[:, -1] *= -1
    return left @ right
