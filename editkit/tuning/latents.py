"""Training points (z_t, t): a bank of whole trajectories, or a fresh one for every point."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.trajectory import Moment, trajectory
from editkit.tuning.denoisers import Denoisers

Texts = Callable[[Tensor, Tensor], Tensor]
"""Numbers of concepts and of templates, `(rows,)` each → embeddings `(rows, tokens, width)`."""


@dataclass(frozen=True)
class Points:
    """Noisy latents with the step that they really are at.

    Attributes:
        z: `(rows, channels, h, w)` as the denoiser reads it.
        t: `(rows,)`, training steps.
        concept, template: `(rows,)`, which prompt they came from.
        n, e: what the teacher predicts for the neutral prompt and for that of the concept, where the loss reads it. Of
            noised pictures `e` is the noise, or the velocity, that is in them.
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
        return {
            attribute.name: value for attribute in fields(self) if (value := getattr(self, attribute.name)) is not None
        }


def joined(parts: Sequence[Points]) -> Points:
    names = parts[0].state()
    return Points(**{name: torch.cat([part.state()[name] for part in parts]) for name in names})


def with_noise(scheduler: Any, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Clean latents at the training steps `t` `(rows,)`, and what a denoiser should say of them: the noise, or the
    velocity, that is in them."""
    velocity = scheduler.config.prediction_type == "v_prediction"
    return scheduler.add_noise(clean, noise, t), scheduler.get_velocity(clean, noise, t) if velocity else noise


@dataclass(frozen=True)
class Sampler:
    """Draws latents with the scheduler of the model. `steps` DDIM steps at `guidance`."""

    networks: Denoisers
    scheduler: Any
    shape: tuple[int, ...]
    steps: int
    guidance: float
    device: torch.device

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
        network = self.networks.teacher if teacher else self.networks.student
        last = torch.full((len(concept),), self.steps - 1)
        with self.networks.counter.purpose("latents"):
            way = list(self._way(network, texts(concept, template), neutral, seed, last))
        return joined([Points(moment.z, moment.t, concept, template) for moment in way if moment.t is not None])

    def fresh(self, concept: Tensor, template: Tensor, texts: Texts, neutral: Tensor, seed: torch.Generator) -> Points:
        """The authors' scheme: a student trajectory of its own for every point, cut at a random step.

        They label the latents with another step than the one that they are at; here `t` is theirs.
        """
        cut = torch.randint(self.steps, (len(concept),), generator=seed)
        with self.networks.counter.purpose("latents"):
            way = list(self._way(self.networks.student, texts(concept, template), neutral, seed, cut))
        rows: dict[int, Points] = {}
        for step, moment in enumerate(way):
            for at, row in enumerate(moment.rows.tolist()):
                if int(cut[row]) == step and moment.t is not None:
                    own, here = slice(row, row + 1), slice(at, at + 1)
                    rows[row] = Points(moment.z[here], moment.t[here], concept[own], template[own])
        return joined([rows[row] for row in range(len(concept))])

    def pictures(self, text: Tensor, neutral: Tensor, seed: torch.Generator) -> Tensor:
        """Clean latents of pictures that the teacher draws of `text`, `(rows, channels, h, w)`."""
        with self.networks.counter.purpose("latents"):
            return deque(self._way(self.networks.teacher, text, neutral, seed), maxlen=1).pop().z

    def noised(self, clean: Tensor, concept: Tensor, template: Tensor, seed: torch.Generator) -> Points:
        """Pictures with fresh noise at random steps; `e` is what a denoiser should say of them."""
        noise = torch.randn(clean.shape, generator=seed).to(clean)
        t = torch.randint(self.scheduler.config.num_train_timesteps, (len(clean),), generator=seed).to(clean.device)
        z, wanted = with_noise(self.scheduler, clean, noise, t)
        return Points(z, t, concept, template, e=wanted)

    def _way(
        self,
        network: Callable[..., Tensor],
        text: Tensor,
        neutral: Tensor,
        seed: torch.Generator,
        last: Tensor | None = None,
    ) -> Iterator[Moment]:
        """Guided DDIM, each row as far as its step `last` `(rows,)`, or to the end."""
        self.scheduler.set_timesteps(self.steps)
        noise = torch.randn((len(text), *self.shape), generator=seed).to(self.device)
        both = Condition(torch.cat([neutral.expand_as(text), text]))

        def predict(z: Tensor, t: Tensor, read: Condition) -> Tensor:
            with torch.no_grad():
                return network(z, t, read.text)

        return trajectory(predict, self.scheduler, noise, both, self.guidance, last)
