"""ESR-k and PSR-k (Adversarial Preservation, §5.1), and the same for the subject of a prompt about a style."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from editkit.evaluation.metrics.metric import ERASE, KEEP, Metric, Observation
from editkit.options import REQUIRED, option

AP = "Bui et al. 2024 (Adversarial Preservation), section 5.1"
K = "How many of the detector's labels, the likeliest first, are looked at."


@dataclass(frozen=True)
class Success(Metric):
    """Share of pictures with one role in which the class is seen, or not, as that role wants it.

    Attributes:
        role: of the pictures that are counted.
    """

    source = AP
    is_rate = True
    higher_is_better = True
    needs_labels = True
    role: ClassVar[str]

    k: int = option(REQUIRED, K, at_least=1)

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [
            float(each.is_judged and self.succeeds(each)) if each.role == self.role else None for each in observations
        ]

    @abstractmethod
    def succeeds(self, observation: Observation) -> bool:
        """Whether a picture that could be judged is as wanted."""


@dataclass(frozen=True)
class ESR(Success):
    """Share of pictures of erased classes whose class is *not* among the first `k`. An error is no success."""

    role = ERASE

    def succeeds(self, observation: Observation) -> bool:
        return not observation.sees(self.k)


@dataclass(frozen=True)
class PSR(Success):
    """Share of pictures of preserved classes whose class *is* among the first `k`. An error is no success."""

    role = KEEP

    def succeeds(self, observation: Observation) -> bool:
        return observation.sees(self.k)


@dataclass(frozen=True)
class Subject(Metric):
    """Share of pictures whose prompt names a subject beside its class in which the subject is among the first `k`:
    erasing a style must leave the thing that is drawn. An error is no success."""

    is_rate = True
    higher_is_better = True

    k: int = option(REQUIRED, K, at_least=1)

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [
            None if each.subject is None else float(each.is_judged and each.detection.sees(each.subject, self.k))
            for each in observations
        ]
