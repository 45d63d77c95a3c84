"""The anchor of a run: where its weights begin, and how much each of them matters to what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from editkit.seeds import seeded
from editkit.tuning.anchor import POINTS, Anchor, fisher
from editkit.tuning.latents import Points, Sampler
from editkit.tuning.objectives import distance
from editkit.tuning.options import RefineOptions
from editkit.tuning.prompts import Prompts

KEPT, KEPT_WORDS = -1, 20
"""A stream of random numbers that no step has, and how many words an anchor is measured on."""


def anchored(weights: Mapping[str, Tensor], sampler: Sampler, prompts: Prompts, options: RefineOptions) -> Anchor:
    """To where the trained weights are now."""
    begun = {name: weight.detach().clone() for name, weight in weights.items()}
    measure = partial(_importance, weights, sampler, prompts, options) if options.anchor == "fisher" else None
    return Anchor(begun, options.anchor_weight, options.anchor_rule == "conflict", measure)


def _importance(
    weights: Mapping[str, Tensor], sampler: Sampler, prompts: Prompts, options: RefineOptions
) -> dict[str, Tensor]:
    """The Fisher information of the student at its start, on noised pictures that the teacher draws of what is kept."""
    assert prompts.kept is not None
    seed, rows = seeded(options.seed, KEPT), torch.arange(POINTS) % len(prompts.kept)
    clean = sampler.pictures(prompts.known[prompts.kept], prompts.away, seed)[rows.to(sampler.device)]
    number = prompts.kept[rows.to(prompts.kept.device)]
    points = sampler.noised(clean, number, torch.zeros_like(number), seed)

    def loss(point: Points) -> Tensor:
        with sampler.networks.counter.purpose("anchor"):
            said = sampler.networks.student(point.z, point.t, prompts.known[point.concept])
        assert point.e is not None
        return distance(said, point.e).sum() / 2

    return fisher(weights, points, loss)
