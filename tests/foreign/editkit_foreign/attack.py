"""An attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from editkit.edits.edit import Edit
from editkit.model.editable import EditableModel
from editkit.options import Checked, option
from editkit.redteam.attack import Finding


@dataclass(frozen=True)
class Shrug(Checked):
    """Change nothing, and find what the edit left."""

    changes: ClassVar[str] = "tokens"

    left: float = option(0.5, "What is said to be missed.", at_least=0)

    def attack(self, model: EditableModel, edit: Edit, concept: str) -> Finding:
        return Finding("shrug", concept, self.changes, "adaptive", self.left, 0.0, 1.0, {})
