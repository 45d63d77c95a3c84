"""From clean latents back to the noise that a model draws them from without any text (TINA, CVPR 2026)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.redteam.noisy_ddim import before, levels, parts

Network = Callable[[Tensor, Tensor], Tensor]
"""Latents `(rows, channels, h, w)` and training steps `(rows,)` → what the model predicts."""


@dataclass(frozen=True)
class Inversion:
    """Every step of DDIM undone by descent.

    The paper minimises `‖C₁ z_{t−1} + C₂ ε(z_t) − z_t‖²`, which is `C₁²` times `‖step(z_t) − z_{t−1}‖²`; this is the
    second: Adam does not see the factor, and where ᾱ_t is 0, as in the first step of some models, only the second says
    anything.

    Attributes:
        network: without guidance, under the empty prompt; differentiable in the latents.
        ddim: of diffusers, its timesteps set.
        descents: of every step; 0 leaves the guess of plain DDIM inversion.
        rate: of AdamW.
    """

    network: Network
    ddim: Any
    descents: int
    rate: float

    def noise_of(self, clean: Tensor, is_over: Callable[[], bool] = lambda: False) -> tuple[Tensor, Tensor]:
        """Noise `z_T` `(rows, channels, h, w)` of clean latents, and of each, `(rows,)`, how far, root mean square, the
        steps from there miss the latents they were to reach. Once `is_over` says so, guesses stay as they are."""
        z, missed = clean.float(), []
        for t in reversed([int(t) for t in self.ddim.timesteps]):
            guess = self._guess(z, t)
            z, miss = self._descended(guess, z, t, 0 if is_over() else self.descents)
            missed.append(miss)
        return z, torch.stack(missed).mean(0).sqrt()

    @torch.no_grad()
    def _guess(self, z: Tensor, t: int) -> Tensor:
        """One step of DDIM, backwards: what is clean and what is noise in `z`, mixed as they are at `t`."""
        now, then = levels(self.ddim, t)
        x0, noise = parts(self.ddim, self._asked(z, max(before(self.ddim, t), 0)), then, z)
        return now.sqrt() * x0 + (1 - now).sqrt() * noise

    def _descended(self, guess: Tensor, wanted: Tensor, t: int, descents: int) -> tuple[Tensor, Tensor]:
        """The best of all that were met, row by row."""
        z = guess.clone().requires_grad_()
        optimizer = torch.optim.AdamW([z], lr=self.rate)
        best, least = guess, torch.full((len(guess),), torch.inf, device=guess.device)
        for descent in range(descents + 1):
            with torch.set_grad_enabled(descent < descents):
                losses = (self._step(z, t) - wanted).square().mean((1, 2, 3))
            nearer = losses.detach() < least
            best = torch.where(nearer[:, None, None, None], z.detach(), best)
            least = torch.where(nearer, losses.detach(), least)
            if descent < descents:
                (z.grad,) = torch.autograd.grad(losses.sum(), z)
                optimizer.step()
        return best, least

    def _step(self, z: Tensor, t: int) -> Tensor:
        now, then = levels(self.ddim, t)
        x0, noise = parts(self.ddim, self._asked(z, t), now, z)
        return then.sqrt() * x0 + (1 - then).sqrt() * noise

    def _asked(self, z: Tensor, t: int) -> Tensor:
        return self.network(z, torch.full((len(z),), t, device=z.device))
