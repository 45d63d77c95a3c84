"""A closed-form method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from editkit.edits.edit_map import EditMap
from editkit.edits.method import Method
from editkit.edits.problem import Problem
from editkit.edits.solve import Penalty
from editkit.options import option


@dataclass(frozen=True)
class Partway(Method):
    """Erase as UCE does, and go part of the way."""

    source: ClassVar[str] = "nobody 2026, Eq. 1"

    part: float = option(0.5, "How far to go.", above=0)

    def map(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        return super().map(problem, penalty, erase_scale).scale(self.part)
