"""How likely latents are as noise: the first thing to ask of an inversion, since any picture can be inverted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TERMS = 100
"""Of Kolmogorov's series: the rest is below rounding where it is used."""


def gaussianity(z: Tensor) -> dict[str, float]:
    """Tests of the entries of `z`, of any shape, against independent standard normal numbers.

    Returns:
        `norm_p`: two-sided, of `‖z‖²` under χ²; `ks_p`: Kolmogorov and Smirnov's, of the entries; `mean`, `deviation`,
        `skewness` and `kurtosis` (less 3): 0, 1, 0 and 0 for noise.

    >>> fresh = gaussianity(torch.randn(4096, generator=torch.Generator().manual_seed(0)))
    >>> fresh["norm_p"] > 0.01 and fresh["ks_p"] > 0.01
    True
    >>> gaussianity(torch.rand(4096))["ks_p"]
    0.0
    """
    entries = z.detach().double().flatten().cpu()
    below = float(torch.special.gammainc(torch.tensor(len(entries) / 2.0).double(), entries.square().sum() / 2))
    centred = entries - entries.mean()
    deviation = centred.square().mean().sqrt()
    unit = centred / deviation
    figures = {
        "norm_p": min(1.0, 2 * min(below, 1 - below)), "ks_p": _kolmogorov(entries), "mean": float(entries.mean()),
        "deviation": float(deviation), "skewness": float(unit.pow(3).mean()),
        "kurtosis": float(unit.pow(4).mean()) - 3,
    }  # fmt: skip
    return {name: round(value, 6) for name, value in figures.items()}


def _kolmogorov(entries: Tensor) -> float:
    """Two-sided, by the series for large numbers (Kolmogorov 1933) with Stephens' correction (1970)."""
    n = len(entries)
    wanted = torch.special.ndtr(entries.sort().values)
    steps = torch.arange(n + 1).double() / n
    distance = float(torch.maximum(steps[1:] - wanted, wanted - steps[:-1]).max())
    x = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if x < 0.2:  # the alternating series no longer converges; all but 1
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, TERMS + 1))
    return min(1.0, max(0.0, 2 * sum(terms)))
