"""`noise`: no search at all. What is preserved are random states, new ones in every step, as SPM does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from editkit.options import option
from editkit.tuning.search.request import Ground, Request, Search, SearchResult

TRIES = 100
"""States that are refused for being like the concept's, before one is taken as it is."""


@dataclass(frozen=True)
class Noise(Search):
    """Search nothing: take Gaussian states as large as the concept's, rather those that are unlike it.

    SPM's latent anchoring. A state is taken with probability 1 − cos(state, concept). In so many dimensions that cosine
    is hardly ever far from 0, so almost every state is taken: what is preserved is plain noise, and like no prompt.

    Source: SPM (Lyu et al. 2024), by notes on its code, https://arxiv.org/abs/2312.16145.
    """

    name: ClassVar[str] = "noise"
    source: ClassVar[str] = "SPM (Lyu et al. 2024), https://arxiv.org/abs/2312.16145"
    reads_words: ClassVar[bool] = False

    jitter: float = option(0.2, "A state is up to this part larger or smaller than the concept's.", at_least=0)

    def begin(self, ground: Ground) -> NoiseFinder:
        return NoiseFinder(self)


@dataclass
class NoiseFinder:
    """Draws anew for every row; it remembers nothing."""

    search: Noise

    def find(self, request: Request) -> SearchResult:
        outer = request.outer
        concepts = request.prompts.e(outer.concept, outer.template)
        seeds = [request.random(row) for row in range(len(outer))]
        text = self._states(concepts.text, seeds)
        pooled = None if concepts.pooled is None else self._states(concepts.pooled, seeds)
        return SearchResult(replace(concepts, text=text, pooled=pooled), [])

    def _states(self, concepts: Tensor, seeds: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([self._state(each, seed) for each, seed in zip(concepts, seeds, strict=True)])

    def _state(self, concept: Tensor, seed: torch.Generator) -> Tensor:
        """One, in the shape of `concept`, whatever device that lies on."""
        for _ in range(TRIES):
            state = torch.randn(concept.shape, generator=seed)
            size, taken = torch.rand(2, generator=seed).tolist()
            if taken >= float(cosine_similarity(state.flatten(), concept.flatten().float().cpu(), dim=0)):
                break
        size = float(concept.norm()) * (1 + self.search.jitter * (2 * size - 1))
        return (state * (size / state.norm())).to(concept)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        pass
