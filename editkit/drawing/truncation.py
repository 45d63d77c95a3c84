"""Prompts longer than the text encoder's window are cut: say so, and count them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import islice

from editkit.drawing.pipelines.denoiser import Denoiser

BATCH = 1000


def count_truncated(denoiser: Denoiser, prompts: Iterable[str]) -> int:
    """How many different prompts the model's pipeline cuts; warns if there are any."""
    waiting, count, most = iter(dict.fromkeys(prompts)), 0, 0
    while some := list(islice(waiting, BATCH)):
        cut, most = denoiser.count_cut(some)
        count += cut
    if count:
        warnings.warn(
            f"prompts that are cut, since they are longer than the {most} tokens of the text encoder: {count}",
            stacklevel=2,
        )
    return count
