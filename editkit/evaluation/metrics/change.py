"""LPIPS between the pictures before and after the edit (RECE, table 3): e of the erased, u of the rest, d = e − u."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from editkit.evaluation.metrics.metric import ERASE, KEEP, Metric, Seen
from editkit.evaluation.networks.lpips import Lpips

ROLES = {"e": (ERASE,), "u": (KEEP,), "d": (ERASE, KEEP)}


class PerceptualDistance(Metric):
    """`lpips-e` (higher is better), `lpips-u` (lower is better) and `lpips-d` (higher is better). A pair of which one
    cannot be read is left out, and stands in the errors."""

    needs_detector = False
    needs_original = True

    def __init__(self, which: str, lpips: Lpips) -> None:
        self.which, self.lpips, self.name = which, lpips, f"lpips-{which}"
        self.higher_is_better, self.checkpoint = which != "u", lpips.name
        self.mean_over = "roles" if which == "d" else "pictures"

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        pairs = [
            (one.picture(), one.original_picture()) if one.role in ROLES[self.which] else (None, None) for one in seen
        ]
        some = [(new, old) for new, old in pairs if new is not None and old is not None]
        distances = iter(self.lpips.distances([new for new, _ in some], [old for _, old in some]) if some else [])
        found = [None if new is None or old is None else next(distances) for new, old in pairs]
        if self.which != "d":
            return found
        return [one if one is None or seen[n].role == ERASE else -one for n, one in enumerate(found)]

    def of_means(self, means: np.ndarray) -> np.ndarray:
        """The mean of `2e` and `−2u` over the two roles is `e − u`."""
        return 2 * means if self.which == "d" else means
