"""δ(c): how much less of a concept is seen than before the edit (Adversarial Preservation, §3, figures 1 to 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.evaluation.metrics.metric import ERASE, ROLES, Metric, Observation
from editkit.options import REQUIRED, option


@dataclass(frozen=True)
class Sensitivity(Metric):
    """How much less of a class is seen than before the edit.

    `δ(c) = mean_i [S(original, c, seed_i) − S(edited, c, seed_i)]` with the detector's score of the class as `S`.

    `sensitivity-keep` is damage (lower is better), `sensitivity-erase` is erasure (higher is better). A pair of which
    one could not be judged is left out, and stands in the errors.
    """

    source = "Bui et al. 2024 (Adversarial Preservation), section 3"
    needs_original = True
    needs_labels = True

    role: str = option(REQUIRED, "Of the classes that must go, or of those that must stay.", choices=ROLES)

    @property
    def higher_is_better(self) -> bool:
        return self.role == ERASE

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [self._drop(each) if each.role == self.role else None for each in observations]

    def _drop(self, observation: Observation) -> float | None:
        """How much less of the class is seen in one picture."""
        before, after, wanted = observation.original, observation.detection, observation.wanted
        if before is None or before.error is not None or not observation.is_judged:
            return None
        return before.score(wanted) - after.score(wanted)
