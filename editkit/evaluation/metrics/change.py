"""LPIPS between the pictures before and after the edit (RECE, table 3): e of the erased, u of the rest, d = e − u."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from editkit.evaluation.metrics.metric import ERASE, KEEP, Kit, Metric, Observation, held
from editkit.options import REQUIRED, option

if TYPE_CHECKING:
    from editkit.evaluation.networks.lpips import Lpips

ROLES = {"e": (ERASE,), "u": (KEEP,), "d": (ERASE, KEEP)}


@dataclass(frozen=True)
class LPIPS(Metric):
    """How different pictures look before and after the edit.

    `lpips-e` (higher is better), `lpips-u` (lower is better) and `lpips-d` (higher is better). A pair of which one
    cannot be read is left out, and stands in the errors."""

    source = "Zhang et al. 2018; Gong et al. 2024 (RECE), table 3"
    needs_detector = False
    needs_original = True
    needs_weights = ("lpips", "lpips-linear")

    which: str = option(REQUIRED, "Of the erased (e), of the rest (u), or e − u (d).", choices=tuple(ROLES))
    lpips: Lpips = held()

    @property
    def higher_is_better(self) -> bool:
        return self.which != "u"

    @property
    def mean_over(self) -> str:
        return "roles" if self.which == "d" else "pictures"

    @property
    def checkpoint(self) -> str:
        return self.lpips.name

    def prepare(self, kit: Kit) -> Self:
        from editkit.evaluation.networks.lpips import load_lpips

        return self.holding(lpips=load_lpips(kit.weights.get("lpips"), kit.weights.get("lpips-linear")))

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        pairs = [
            (each.picture(), each.original_picture()) if each.role in ROLES[self.which] else (None, None)
            for each in observations
        ]
        some = [(new, old) for new, old in pairs if new is not None and old is not None]
        distances = iter(self.lpips.distances([new for new, _ in some], [old for _, old in some]) if some else [])
        numbers = [None if new is None or old is None else next(distances) for new, old in pairs]
        if self.which != "d":
            return numbers
        return [
            number if number is None or observation.role == ERASE else -number
            for number, observation in zip(numbers, observations, strict=True)
        ]

    def of_means(self, means: np.ndarray) -> np.ndarray:
        """The mean of `2e` and `−2u` over the two roles is `e − u`."""
        return 2 * means if self.which == "d" else means
