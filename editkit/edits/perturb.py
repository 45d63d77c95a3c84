"""Random rows around a concept's own: what hardening by found prompts is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.edits.problem import Rows
from editkit.edits.solve import Penalty

SEED = 0


def perturbed(rows: Sequence[Rows], penalty: Penalty, gram: Tensor, scale: float, copies: int) -> list[Rows]:
    """`C + σξ` with the targets of `C`, `copies` times for every concept.

    ξ is normal with covariance in proportion to `B⁻¹`, where `B` is the penalty: large where nothing is protected,
    small along the protected words. A row that an attacker reaches and that is no protected one is likelier near such
    a row than near `C`.

    Args:
        rows: of each concept, `(n, d)`.
        penalty: what holds the protected and the preserved rows.
        gram: `G`, `(d, d)`.
        scale: σ. 1: noise is as long as the way from a row to its target, both as keys and values, in the mean.
        copies: of every row.

    Returns:
        Rows of each concept, `(copies · n, d)`.
    """
    generator = torch.Generator("cpu").manual_seed(SEED)
    factor = torch.linalg.cholesky(penalty.matrix())
    spread = (torch.cholesky_inverse(factor) * gram).sum()  # E‖ξ‖²_G
    noisy = []
    for each in rows:
        source, target = each.source.double().repeat(copies, 1), each.target.double().repeat(copies, 1)
        move = target - source
        way = ((move @ gram) * move).sum(1).mean()
        white = torch.randn(source.shape, generator=generator, dtype=torch.float64, device="cpu").to(source)
        xi = torch.linalg.solve_triangular(factor.T, white.T, upper=True).T
        noisy.append(Rows(source + scale * (way / spread).sqrt() * xi, target))
    return noisy
