"""What of a picture is the concept, told by the attention that the teacher pays to its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from editkit.tuning.attention import recorded
from editkit.tuning.latents import Points, Sampler
from editkit.tuning.levels import with_noise
from editkit.tuning.passes import Passes

LOOKS = (200, 300, 400)
"""Of 1000 training steps, those at which pictures are looked at: where a picture takes shape."""


@torch.no_grad()
def attended_masks(passes: Passes, sampler: Sampler, clean: Points, seed: torch.Generator, rows: int) -> Tensor:
    """Which latents of clean pictures are the concept, `(pictures, 1, h, w)`, 0 or 1.

    Each picture is noised to the steps 200, 300 and 400 of 1000. There the teacher reads the prompt that it was drawn
    by, and its attention to the tokens of the concept is added up over heads and tokens, brought to the grid of the
    latents, divided by its mean, and averaged over layers and steps. The concept is where the average is 1 or more:
    where the picture is attended to as much as in the mean, or more. So no picture is without a concept.

    That is ours: MACE asks a model that finds objects by their names (Grounded SAM), which is not bundled.

    Args:
        clean: pictures without noise, with the prompts that they show.
        rows: pictures that are looked at together.
    """
    known, network = sampler.scheduler.config.num_train_timesteps, passes.networks.both[-1]
    total = clean.z.new_zeros(len(clean), 1, *clean.z.shape[-2:])
    for look in LOOKS:
        noise = torch.randn(clean.z.shape, generator=seed).to(clean.z)
        t = torch.full((len(clean),), look * known // 1000, device=clean.z.device)
        z, _ = with_noise(sampler.scheduler, clean.z, noise, t)
        for start in range(0, len(clean), rows):
            some = slice(start, start + rows)
            asked = clean.concept[some], clean.template[some]
            with recorded(network, passes.attends) as attended:
                passes.networks.teacher(z[some], t[some], passes.prompts.e(*asked))
            total[some] += attended.where(passes.prompts.tokens(*asked), *clean.z.shape[-2:]) / len(LOOKS)
    return (total >= 1).to(total)
