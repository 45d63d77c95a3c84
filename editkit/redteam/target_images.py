"""Pictures of the concept, drawn by the original model: what white-box attacks learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import at_once, fast, noise
from editkit.drawing.sampling import Sampling, scheduler_for
from editkit.drawing.trajectory import trajectory
from editkit.redteam.cost import Cost
from editkit.redteam.victim import Victim


@dataclass(frozen=True)
class TargetImages:
    """Latents of `n` pictures, and the way to them.

    Attributes:
        clean: `(n, channels, h, w)` float32.
        way: `(steps, n, channels, h, w)` float32, as the network reads them.
        t: `(steps,)`, the training step of each.
        raw: the prompt of each picture, unedited, a row each.
        cost: what drawing them took.
    """

    clean: Tensor
    way: Tensor
    t: Tensor
    raw: Condition
    cost: Cost

    @classmethod
    @torch.no_grad()
    def drawn(cls, original: Victim, sampling: Sampling, prompts: Sequence[str], count: int) -> TargetImages:
        """By DDIM, with the guidance and steps that the model is used with.

        Args:
            original: the unedited model.
            prompts: taken in turn.
            count: how many pictures, from the seeds 0, 1, ...
        """
        cost = Cost()
        with cost.timed(), fast(original.denoiser.device):
            known = original.encoded([*prompts, sampling.negative], cost)
            asked = [known[prompts[n % len(prompts)]] for n in range(count)]
            batch = at_once(original.denoiser, sampling)
            parts = [
                _way(original, sampling, asked[start : start + batch], known[sampling.negative], start, cost)
                for start in range(0, count, batch)
            ]
        steps = torch.cat([way for way, _ in parts], 1)
        return cls(steps[-1], steps[:-1], parts[0][1], Condition.joined(asked), cost)


def _way(
    original: Victim, sampling: Sampling, asked: Sequence[Condition], nothing: Condition, seed: int, cost: Cost
) -> tuple[Tensor, Tensor]:
    """Latents before every step and at the end `(steps + 1, rows, ...)`, and the steps' t."""
    denoiser, guidance = original.denoiser, original.denoiser.away(sampling)
    scheduler = scheduler_for(denoiser.scheduler, replace(sampling, scheduler="ddim"))
    shape = denoiser.latent_shape(sampling.size)
    noises = torch.stack([noise(shape, seed + n) for n in range(len(asked))]).to(denoiser.device)
    read = Condition.joined([*([nothing] * len(asked) if guidance is not None else []), *asked])

    def network(z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return original.read(z, t, condition, cost)

    moments = list(trajectory(network, scheduler, noises, read, guidance, guided=denoiser.guided))
    times = torch.tensor([int(moment.t[0]) for moment in moments if moment.t is not None])
    return torch.stack([moment.z.float() for moment in moments]), times
