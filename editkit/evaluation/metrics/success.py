"""ESR-k and PSR-k (Adversarial Preservation, §5.1), and the same for the subject of a prompt about a style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.evaluation.metrics.metric import ERASE, KEEP, Metric, Seen
from editkit.options import REQUIRED, option

AP = "Bui et al. 2024 (Adversarial Preservation), section 5.1"
K = "How many of the detector's labels, the likeliest first, are looked at."


@dataclass(frozen=True)
class ESR(Metric):
    """Share of pictures of erased classes whose class is *not* among the first `k`. An error is no success."""

    source = AP
    is_rate = True
    higher_is_better = True
    needs_labels = True

    k: int = option(REQUIRED, K, at_least=1)

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [float(one.is_judged and not one.sees(self.k)) if one.role == ERASE else None for one in seen]


@dataclass(frozen=True)
class PSR(Metric):
    """Share of pictures of preserved classes whose class *is* among the first `k`. An error is no success."""

    source = AP
    is_rate = True
    higher_is_better = True
    needs_labels = True

    k: int = option(REQUIRED, K, at_least=1)

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [float(one.is_judged and one.sees(self.k)) if one.role == KEEP else None for one in seen]


@dataclass(frozen=True)
class Subject(Metric):
    """Share of pictures whose prompt names a subject beside its class in which the subject is among the first `k`:
    erasing a style must leave the thing that is drawn. An error is no success."""

    is_rate = True
    higher_is_better = True

    k: int = option(REQUIRED, K, at_least=1)

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [
            None if one.subject is None else float(one.is_judged and one.detection.sees(one.subject, self.k))
            for one in seen
        ]
