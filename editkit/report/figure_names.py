"""The figures of an edit in plain words. Nothing is imported here: the command line reads it before any work."""

from __future__ import annotations

import math
from typing import Any

PLAIN_WORDS = {
    "erasure_residual": ("left of the concept", "0 is fully moved to the guide, 1 is untouched"),
    "recovery_norm": (
        "recovery norm",
        "size of the cheapest embedding that undoes the edit, against the concept's own",
    ),
    "recovery_floor": ("recovery floor", "what no embedding brings back; 0: one brings all of the concept back"),
    "fusion_residual": (
        "left of what was asked",
        "of the part of which most is missing; 0: each does to its concept what it did alone",
    ),
    "damage_mean": ("damage, mean", "relative squared change of the other words"),
    "damage_p95": ("damage, 95th percentile", ""),
    "damage_worst": ("damage, worst word", ""),
    "free_directions": ("free directions", "of text embeddings, that the protected words leave to the edit"),
    "free_energy": ("protected energy there", "share of the protected words that may move"),
    "rank": ("rank", "directions of text embedding that the edit changes"),
    "kernel_rank": ("directions lost", "that the map sends to nothing; 0: it can be inverted"),
    "weight_change_median": ("weight change, median layer", "‖ΔW‖ / ‖W‖"),
    "weight_change_worst": ("weight change, worst layer", ""),
    "steps": ("steps", ""),
    "erase_mean": ("erasure term, mean", "squared distance from the target, over the run"),
    "preserve_mean": ("preservation term, mean", "squared change of the words that were found, over the run"),
    "passes_per_step": ("UNet passes a step", "forward, counted"),
    "seconds_per_step": ("seconds a step", ""),
    "condition": ("condition number", "above 1e12 the solution loses digits"),
}
"""Key of `Figures` → name and meaning."""

PLAIN_NAMES = {
    "leverage": "least leverage (far below 1, a concept lies among protected words and hardly goes)",
    "recovery_floor": "least recovery floors",
}
"""Key of a single concept's figures → name."""


def number(value: Any) -> str:
    """Three digits of a fraction, a whole number as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def interval(value: float, low: float, high: float, is_rate: bool) -> str:
    """A value with its interval, a rate in per cent without the sign; without the interval where there is none.

    >>> interval(0.9444, 0.9, 0.97, True), interval(0.25, float("nan"), float("nan"), False)
    ('94 (90 to 97)', '0.25')
    """
    said, *ends = (f"{100 * each:.0f}" if is_rate else number(each) for each in (value, low, high))
    return said if math.isnan(low) or math.isnan(high) else f"{said} ({ends[0]} to {ends[1]})"
