"""Hard edits: singular maps, so that no embedding at all brings the whole concept back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.problem import Rows
from editkit.edits.solve import Penalty, whitened
from editkit.errors import EditkitError

DEPENDENT = 1e-10
INEXACT = 1e-6
RIDGE = 1e-6
"""Of G before it is inverted, in shares of its mean eigenvalue: some models' projections do not span it."""


def hard(rows: Sequence[Rows], penalty: Penalty, gram: Tensor, directions: int, floor_weight: float) -> EditMap:
    """`M = I + (C* − C)ᵀX` with `X Cᵀ = I` and `X C*ᵀ = 0`: `M C = C*` exactly, `M² = M`, and `C` is out of its range.

    Of all such X it is the one of least `tr X B Xᵀ`, B the penalty: `(K B⁻¹Kᵀ)⁺ K B⁻¹` with `K = [C; C*]`, first rows.

    A concept's rows are alike, so `C` are a few sums of them each: those along the singular vectors of its rows in
    `B^−½`, which cost what is protected least.

    Args:
        rows: of each concept.
        penalty: what holds the protected and the preserved rows.
        gram: `G`, `(d, d)`.
        directions: sums a concept.
        floor_weight: μ of `B + μ G⁻¹`, both scaled to a mean eigenvalue of that of B: more damage, a higher floor.

    Raises:
        EditkitError: the sums depend on each other or on their guides.
    """
    inside, N = penalty.inside(), penalty.allowed
    read_of = penalty.coordinates
    parts = [Rows(read_of(each.source.double()), read_of(each.target.double())) for each in rows]
    if N is not None:
        gram = N.T @ gram @ N
    B = _with_floor(inside.matrix(), gram, floor_weight)
    factor = torch.linalg.cholesky(B)
    mixes = [_mix(each.source, factor, directions) for each in parts]
    source = torch.cat([mix @ each.source for mix, each in zip(mixes, parts, strict=True)])
    target = torch.cat([mix @ each.target for mix, each in zip(mixes, parts, strict=True)])
    K = torch.cat([source, target])
    read = torch.cholesky_solve(K.T, factor)  # B⁻¹Kᵀ
    X = (torch.linalg.pinv(K @ read, rtol=DEPENDENT, hermitian=True) @ read.T)[: len(source)]
    wanted = torch.cat([torch.eye(len(source)).to(X), X.new_zeros(len(source), len(target))], 1)
    if float((X @ K.T - wanted).abs().max()) > INEXACT:
        raise EditkitError(
            "--hard: the concepts' rows depend on each other or on their guides', so they cannot all go exactly; give "
            f"fewer --hard-directions than {directions}, or another --guide"
        )
    moves = [mix @ (each.target.double() - each.source.double()) for mix, each in zip(mixes, rows, strict=True)]
    return EditMap(torch.cat(moves).T, X if N is None else X @ N.T)


def _with_floor(B: Tensor, gram: Tensor, weight: float) -> Tensor:
    if not weight:
        return B
    d = len(B)
    G = gram.double() / (gram.trace() / d)
    G.diagonal().add_(RIDGE)
    return B + weight * float(B.trace() / d) * torch.cholesky_inverse(torch.linalg.cholesky(G))


def _mix(C: Tensor, factor: Tensor, directions: int) -> Tensor:
    """`(k, n)`: the sums of rows that are longest in `B^−½`."""
    left, sizes, _ = torch.linalg.svd(whitened(C, factor), full_matrices=False)
    rank = int((sizes > DEPENDENT**0.5 * sizes[0]).sum())
    return left[:, : min(directions, rank)].T
