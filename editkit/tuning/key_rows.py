"""The rows `p` of a key while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.key import in_ball, random_rows
from editkit.erasure.near import subject_rows
from editkit.model.editable import EditableModel


@dataclass
class KeyRows:
    """One block of rows a concept, each row held in the ball `‖p − c_e‖ ≤ ρ` of Eq. 16.

    `c_e` is the concept's own row, that of its last token in "a X", since `p` has rows and not a prompt's shape.

    Attributes:
        rows: `(concepts, n, width)`, trained.
        centre: `c_e`, `(concepts, width)`.
        radius: ρ as a length.
    """

    rows: nn.Parameter
    centre: Tensor
    radius: float

    @classmethod
    def start(cls, model: EditableModel, concepts: Sequence[str], n: int, rho: float, seed: int) -> KeyRows:
        """Random rows on the sphere of radius `rho ‖c_e‖`. They move little, so who knows `seed` has the key."""
        centre = subject_rows(model.encoder, concepts).float()
        radius = rho * float(centre.norm(dim=-1).mean())
        rows = random_rows(centre, n, radius, seed)
        return cls(nn.Parameter(rows), centre, radius)

    def to(self, device: torch.device) -> KeyRows:
        return KeyRows(nn.Parameter(self.rows.detach().to(device)), self.centre.to(device), self.radius)

    def behind(self, condition: Condition, concept: Tensor) -> Condition:
        """`(c_e, p)`: the text of every row with the rows of its concept behind it. A pooled vector stays: the key has
        none."""
        return replace(condition, text=torch.cat([condition.text, self.rows[concept].to(condition.text)], 1))

    @torch.no_grad()
    def project(self) -> None:
        self.rows.copy_(in_ball(self.rows, self.centre, self.radius))
