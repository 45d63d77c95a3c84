"""Randomness that a resumed run repeats."""

from __future__ import annotations

import torch


def seeded(seed: int, step: int) -> torch.Generator:
    """A CPU generator for one step of a run."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
