"""An objective of a gradient stage."""

from __future__ import annotations

from editkit.tuning.objectives import Objective, Outputs, Terms, distance, most_changed


def halfway(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Draw what lies halfway between the concept and its guide, and keep the concept that suffers most."""
    erase = distance(student["e"], (teacher["e"] + teacher["n"]) / 2)
    return Terms(erase, distance(student["a"], teacher["a"]))


HALFWAY = Objective(
    halfway, student=("e", "a"), teacher=("n", "e", "a"), searched=most_changed, search_reads=("a",), usual={"steps": 2}
)
