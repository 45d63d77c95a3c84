"""The directions that no protected word uses: what an edit may read so that every protected word stays in place."""

from __future__ import annotations

import torch
from torch import Tensor

from editkit.edits.protect import ProtectedWords
from editkit.errors import EditkitError

ROUNDING = 1e-10


def null_space(moment: Tensor, threshold: float, held: Tensor | None, C: Tensor) -> Tensor:
    """`N` `(d, q)`, orthonormal: eigenvectors of a vocabulary's second moment with the least eigenvalues.

    SPEED (Li et al. 2026, Eq. 4) takes those below an absolute number, which depends on the encoder's scale; here it is
    a share of the mean eigenvalue.

    Args:
        moment: of the vocabulary, `(d, d)`.
        threshold: eigenvalues up to `threshold · trace / d` belong to it. 0: none but those of rounding.
        held: rows that must stay exactly where they are, `(m, d)`, or None (SPEED's equality constraints).
        C: rows of the concepts, which must not lie in what is held.

    Raises:
        EditkitError: no direction is left, or none of the concepts' own.
    """
    values, Q = torch.linalg.eigh(moment)
    N = Q[:, values <= max(threshold * float(values.sum()) / len(values), ROUNDING * float(values[-1]))]
    if held is not None and N.shape[1]:
        N = N @ orthogonal_to(held.double() @ N)
    if not N.shape[1]:
        raise EditkitError(
            f"--protect null: the protected words and prompts leave no direction to edit at --null-threshold "
            f"{threshold:g}; give a larger one, or protect less"
        )
    if float((C @ N).norm()) < 1e-6 * float(C.norm()):
        raise EditkitError(
            "--protect null: the concepts lie in the span of what is protected, so nothing can be erased; give a "
            f"larger --null-threshold than {threshold:g}, or protect less"
        )
    return N


def orthogonal_to(rows: Tensor) -> Tensor:
    """The directions that rows `(m, d)` do not use, `(d, q)`, orthonormal."""
    _, sizes, directions = torch.linalg.svd(rows.double())
    rank = int((sizes > ROUNDING * max(1.0, float(sizes[0]))).sum())
    return directions[rank:].T


def left_out(protected: ProtectedWords, N: Tensor) -> float:
    """The share of the vocabulary's energy that lies in `N` and so may move."""
    moment = protected.mean_moment
    return float((N * (moment @ N)).sum() / moment.trace())
