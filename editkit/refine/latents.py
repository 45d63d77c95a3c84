"""Training points (z_t, t): a bank of whole trajectories, or a fresh one for every point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from editkit.refine.denoisers import Denoisers

Texts = Callable[[Tensor, Tensor], Tensor]
"""Numbers of concepts and of templates, `(rows,)` each → embeddings `(rows, tokens, width)`."""


@dataclass(frozen=True)
class Points:
    """Noisy latents with the step that they really are at.

    Attributes:
        z: `(rows, channels, h, w)` as the denoiser reads it.
        t: `(rows,)`, training steps.
        concept, template: `(rows,)`, which prompt they came from.
        n, e: what the teacher predicts for the neutral prompt and for that of the concept, where the loss reads it.
    """

    z: Tensor
    t: Tensor
    concept: Tensor
    template: Tensor
    n: Tensor | None = None
    e: Tensor | None = None

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: Any) -> Points:
        return Points(**{name: value[rows] for name, value in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}


def joined(parts: Sequence[Points]) -> Points:
    names = parts[0].state()
    return Points(**{name: torch.cat([part.state()[name] for part in parts]) for name in names})


@dataclass(frozen=True)
class Sampler:
    """Draws latents with the scheduler of the model. `steps` DDIM steps at `guidance`."""

    networks: Denoisers
    scheduler: Any
    shape: tuple[int, ...]
    steps: int
    guidance: float
    device: torch.device

    @torch.no_grad()
    def trajectory(
        self, text: Tensor, neutral: Tensor, generator: torch.Generator, until: int | None = None, teacher: bool = False
    ) -> tuple[list[Tensor], list[int], Tensor]:
        """One trajectory a row of `text`, stopped before step `until`.

        Returns:
            What the denoiser is given at every step, the steps' t, and the latents after the last.
        """
        network = self.networks.teacher if teacher else self.networks.student
        self.scheduler.set_timesteps(self.steps)
        z = torch.randn((len(text), *self.shape), generator=generator).to(self.device) * self.scheduler.init_noise_sigma
        both = torch.cat([neutral.expand_as(text), text])
        seen, at = [], []
        for t in self.scheduler.timesteps[: None if until is None else until + 1]:
            given = self.scheduler.scale_model_input(z, t)
            seen.append(given)
            at.append(int(t))
            if until is not None and len(seen) == until + 1:
                break
            without, with_text = network(torch.cat([given, given]), t.expand(2 * len(z)).to(z.device), both).chunk(2)
            z = self.scheduler.step(without + self.guidance * (with_text - without), t, z).prev_sample
        return seen, at, z

    def bank(
        self,
        concept: Tensor,
        template: Tensor,
        texts: Texts,
        neutral: Tensor,
        seed: torch.Generator,
        teacher: bool = False,
    ) -> Points:
        """Every step of one trajectory, of the student or the teacher, for each of the given prompts."""
        with self.networks.counter.purpose("latents"):
            seen, at, _ = self.trajectory(texts(concept, template), neutral, seed, teacher=teacher)
        rows = [
            Points(z, torch.full_like(concept, t, device=z.device), concept, template)
            for z, t in zip(seen, at, strict=True)
        ]
        return joined(rows)

    def fresh(self, concept: Tensor, template: Tensor, texts: Texts, neutral: Tensor, seed: torch.Generator) -> Points:
        """The authors' scheme: a trajectory of its own for every point, cut at a random step.

        They label the latents with another step than the one that they are at; here `t` is theirs.
        """
        rows = []
        with self.networks.counter.purpose("latents"):
            for row in range(len(concept)):
                one = slice(row, row + 1)
                until = int(torch.randint(self.steps, (), generator=seed))
                seen, at, _ = self.trajectory(texts(concept[one], template[one]), neutral, seed, until)
                t = torch.full_like(concept[one], at[-1], device=seen[-1].device)
                rows.append(Points(seen[-1], t, concept[one], template[one]))
        return joined(rows)

    def pictures(self, text: Tensor, neutral: Tensor, seed: torch.Generator) -> Tensor:
        """Clean latents of pictures that the teacher draws of `text`, `(rows, channels, h, w)`."""
        with self.networks.counter.purpose("latents"):
            return self.trajectory(text, neutral, seed, teacher=True)[2]

    def noised(self, clean: Tensor, concept: Tensor, template: Tensor, seed: torch.Generator) -> Points:
        """Pictures with fresh noise at random steps."""
        noise = torch.randn(clean.shape, generator=seed).to(clean)
        t = torch.randint(self.scheduler.config.num_train_timesteps, (len(clean),), generator=seed).to(clean.device)
        return Points(self.scheduler.add_noise(clean, noise, t), t, concept, template)
