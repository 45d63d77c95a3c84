"""Batches of training pictures, composed on the device from the rendered icons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editkit.emoji.catalogue import catalogue
from editkit.emoji.icons import ICON_SIZE, MAX_SHIFT, PICTURE_SIZE


@dataclass
class Composer:
    """Icons `(n, ICON_SIZE, ICON_SIZE, 4)` uint8 → pictures `(b, 3, PICTURE_SIZE, PICTURE_SIZE)` in [-1, 1]."""

    icons: np.ndarray
    device: str = "cpu"

    def __post_init__(self) -> None:
        planes = torch.from_numpy(self.icons).to(self.device).permute(0, 3, 1, 2)
        self._planes = planes
        self._colours = torch.tensor(list(catalogue().backgrounds.values()), device=self.device) / 127.5 - 1

    def __len__(self) -> int:
        return len(self.icons)

    def __call__(self, which: Tensor, backgrounds: Tensor, shifts: Tensor) -> Tensor:
        """`which`, `backgrounds`: indices `(b,)`; `shifts`: `(b, 2)` pixels right and down."""
        b = len(which)
        padded = torch.zeros(b, 4, PICTURE_SIZE, PICTURE_SIZE, device=self.device)
        edge = (PICTURE_SIZE - ICON_SIZE) // 2
        drawings = self._planes[which.to(self.device)].float() / 255
        for row, (right, down) in enumerate(shifts.tolist()):
            left, top = edge + right, edge + down
            padded[row, :, top : top + ICON_SIZE, left : left + ICON_SIZE] = drawings[row]
        alpha = padded[:, 3:]
        colour = self._colours[backgrounds.to(self.device)][:, :, None, None]
        return alpha * (padded[:, :3] * 2 - 1) + (1 - alpha) * colour

    def plain(self, backgrounds: Tensor) -> Tensor:
        """Backgrounds without an icon, `(b, 3, PICTURE_SIZE, PICTURE_SIZE)`."""
        colour = self._colours[backgrounds.to(self.device)][:, :, None, None]
        return colour.expand(-1, -1, PICTURE_SIZE, PICTURE_SIZE)

    def random(self, b: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random `(which, backgrounds, shifts)` for `__call__`."""
        which = torch.randint(len(self.icons), (b,), generator=generator)
        backgrounds = torch.randint(len(self._colours), (b,), generator=generator)
        shifts = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (b, 2), generator=generator)
        return which, backgrounds, shifts
