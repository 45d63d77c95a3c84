"""Training points (z_t, t): a bank of whole trajectories, or a fresh one for every point."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampling import Sampling, is_flow
from editkit.drawing.trajectory import Moment, trajectory
from editkit.tuning.denoisers import Ask, Denoisers
from editkit.tuning.levels import with_noise

DENSITIES = ("even", "focal")
FOCUS, SLOPE = (200, 400), 0.05
"""Of 1000 training steps, those between which most points are taken, and how sharply that ends."""

Read = Callable[[Tensor, Tensor], Condition]
"""Numbers of concepts and of templates, `(rows,)` each → what the denoiser reads, one row each."""


@dataclass(frozen=True)
class Points:
    """Noisy latents with the step that they really are at.

    Attributes:
        z: `(rows, channels, h, w)` as the denoiser reads it.
        t: `(rows,)`, training steps; of a flow with fractions.
        concept, template: `(rows,)`, which prompt they came from.
        n, e: what the teacher predicts for the neutral prompt and for that of the concept, where the loss reads it. Of
            noised pictures `e` is the noise, or the velocity, that is in them.
        mask: what of a picture is the concept, `(rows, 1, h, w)` from 0 to 1, where the loss reads it.
        o, s: likewise for the empty prompt, and the mean over all that is said for the concept.
    """

    z: Tensor
    t: Tensor
    concept: Tensor
    template: Tensor
    n: Tensor | None = None
    e: Tensor | None = None
    mask: Tensor | None = None
    o: Tensor | None = None
    s: Tensor | None = None

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: Any) -> Points:
        return Points(**{name: value[rows] for name, value in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        return {
            attribute.name: value for attribute in fields(self) if (value := getattr(self, attribute.name)) is not None
        }


def joined(parts: Sequence[Points]) -> Points:
    names = parts[0].state()
    return Points(**{name: torch.cat([part.state()[name] for part in parts]) for name in names})


def focal(t: Tensor, known: int = 1000) -> Tensor:
    """How often a point at training step `t` is taken, up to a factor: `σ(γ (t − t₁)) − σ(γ (t − t₂))`, where a picture
    takes shape.

    Source: MACE (Lu et al. 2024), https://arxiv.org/abs/2403.06135, by notes of others: `t₁ = 200`, `t₂ = 400`
    and `γ = 0.05` of 1000 steps. Of a flow `t` is its noise in thousandths, at which the paper says nothing.

    >>> focal(torch.tensor([0.0, 200.0, 300.0, 400.0, 999.0])).round(decimals=3).tolist()
    [0.0, 0.5, 0.987, 0.5, 0.0]
    """
    first, last = (torch.sigmoid(SLOPE * (t.double() * 1000 / known - end)) for end in FOCUS)
    return first - last


def drawn_by(weights: Tensor, chances: Tensor) -> Tensor:
    """Places `(rows,)` of `weights` `(n,)`, each as often as its weight says; `chances` are even between 0 and 1."""
    ends = weights.double().cumsum(0)
    return torch.searchsorted(ends, chances.double() * ends[-1], right=True).clamp(max=len(weights) - 1)


@dataclass(frozen=True)
class Sampler:
    """Draws latents as the model is drawn with at `sampling`, its network one of `networks`.

    Attributes:
        density: which points are taken most: `even` or `focal`.
    """

    networks: Denoisers
    denoiser: Denoiser
    sampling: Sampling
    density: str = "even"

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @cached_property
    def scheduler(self) -> Any:
        """Of the model, its timesteps all that it was trained with."""
        return self.denoiser.schedule(replace(self.sampling, steps=self.denoiser.scheduler.config.num_train_timesteps))

    def bank(
        self,
        concept: Tensor,
        template: Tensor,
        read: Read,
        away: Condition,
        seed: torch.Generator,
        teacher: bool = False,
    ) -> Points:
        """Every step of one trajectory, of the student or the teacher, for each of the given prompts."""
        network = self.networks.teacher if teacher else self.networks.student
        last = torch.full((len(concept),), self.sampling.steps - 1)
        with self.networks.counter.purpose("latents"):
            way = list(self._way(network, read(concept, template), away, seed, last))
        return joined([Points(moment.z, moment.t, concept, template) for moment in way if moment.t is not None])

    def fresh(self, concept: Tensor, template: Tensor, read: Read, away: Condition, seed: torch.Generator) -> Points:
        """The authors' scheme: a student trajectory of its own for every point, cut at a random step.

        They label the latents with another step than the one that they are at; here `t` is theirs.
        """
        cut = self._cuts(len(concept), seed)
        with self.networks.counter.purpose("latents"):
            way = list(self._way(self.networks.student, read(concept, template), away, seed, cut))
        rows: dict[int, Points] = {}
        for step, moment in enumerate(way):
            for at, row in enumerate(moment.rows.tolist()):
                if int(cut[row]) == step and moment.t is not None:
                    own, here = slice(row, row + 1), slice(at, at + 1)
                    rows[row] = Points(moment.z[here], moment.t[here], concept[own], template[own])
        return joined([rows[row] for row in range(len(concept))])

    def pictures(self, condition: Condition, away: Condition, seed: torch.Generator) -> Tensor:
        """Clean latents of pictures that the teacher draws of `condition`, `(rows, channels, h, w)`."""
        with self.networks.counter.purpose("latents"):
            return deque(self._way(self.networks.teacher, condition, away, seed), maxlen=1).pop().z

    def noised(self, clean: Tensor, concept: Tensor, template: Tensor, seed: torch.Generator) -> Points:
        """Pictures with fresh noise at random steps; `e` is what the model should say of them."""
        noise = torch.randn(clean.shape, generator=seed).to(clean)
        t = self._times(len(clean), seed).to(clean.device)
        z, wanted = with_noise(self.scheduler, clean, noise, t)
        return Points(z, t, concept, template, e=wanted)

    def _times(self, count: int, seed: torch.Generator) -> Tensor:
        """`(count,)` training steps as a model is trained with them: of diffusion any. Of a flow a place on its own
        schedule, which has the shift for the size of the pictures, by the logit-normal density of Esser et al. 2024,
        "Scaling rectified flow transformers for high-resolution image synthesis", https://arxiv.org/abs/2403.03206,
        Section 3.1, with location 0 and scale 1: what SD3 was trained with. FLUX.1's is not published."""
        known = self.scheduler.config.num_train_timesteps
        if self.density == "focal":
            steps = self.scheduler.timesteps.cpu() if is_flow(self.scheduler) else torch.arange(known)
            return steps[drawn_by(focal(steps, known), torch.rand((count,), generator=seed))]
        if not is_flow(self.scheduler):
            return torch.randint(known, (count,), generator=seed)
        place = torch.randn((count,), generator=seed).sigmoid()
        return self.scheduler.timesteps.cpu()[(place * known).long().clamp(max=known - 1)]

    def _cuts(self, count: int, seed: torch.Generator) -> Tensor:
        """`(count,)` steps of a trajectory."""
        if self.density == "even":
            return torch.randint(self.sampling.steps, (count,), generator=seed)
        steps = self.denoiser.schedule(self.sampling).timesteps.cpu()
        return drawn_by(focal(steps), torch.rand((count,), generator=seed))

    def chosen(self, t: Tensor, chances: Tensor) -> Tensor:
        """Places `(rows,)` in the training steps `t` `(n,)`; `chances` are even between 0 and 1."""
        if self.density == "even":
            return (chances * len(t)).long()
        return drawn_by(focal(t.cpu()), chances)

    def _way(
        self, ask: Ask, condition: Condition, away: Condition, seed: torch.Generator, last: Tensor | None = None
    ) -> Iterator[Moment]:
        """Guided steps of the model's scheduler, each row as far as its step `last` `(rows,)`, or to the end.

        Args:
            away: what guidance leads away from, one row.
        """
        sampling, rows = self.sampling, len(condition)
        noise = torch.randn((rows, *self.denoiser.latent_shape(sampling.size)), generator=seed).to(self.device)
        guidance = self.denoiser.away(sampling)
        if guidance is not None:
            condition = Condition.joined([away[torch.zeros(rows, dtype=torch.long, device=self.device)], condition])
        scale = torch.full((len(condition),), float(sampling.guidance), device=self.device)
        condition = replace(condition, scale=scale)

        def said(z: Tensor, t: Tensor, read: Condition) -> Tensor:
            with torch.no_grad():
                return ask(z, t, read)

        scheduler = self.denoiser.schedule(sampling)
        return trajectory(said, scheduler, noise, condition, guidance, last, self.denoiser.guided)
