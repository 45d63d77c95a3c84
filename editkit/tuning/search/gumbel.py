"""`gumbel`: gradient ascent on the logits of a Gumbel-Softmax over the candidates.

Adversarial preservation, Algorithm 1: https://arxiv.org/abs/2410.15618.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.options import option
from editkit.tuning.search.request import Ground, Request, Search, SearchResult

AUTHORS = "--recipe authors"
"""The case whose defaults are those of the authors' code."""


def gumbel_softmax(logits: Tensor, noise: Tensor, tau: float, hard: bool) -> Tensor:
    """`softmax((l + g)/τ)` `(rows, K)`; with `hard`, forward one-hot and backward the soft one's gradient."""
    soft = ((logits + noise) / tau).softmax(-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return one_hot + soft - soft.detach()


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel samples, from a generator on the CPU."""
    return -torch.empty(shape).exponential_(generator=generator).log()


@dataclass(frozen=True)
class Gumbel(Search):
    """Gradient ascent on the logits of a Gumbel-Softmax over the candidates."""

    name: ClassVar[str] = "gumbel"
    source: ClassVar[str] = "Bui et al. 2024, Algorithm 1, https://arxiv.org/abs/2410.15618"
    ascends: ClassVar[bool] = True

    search_steps: int = option(2, "Ascent steps before each outer step.", at_least=0, otherwise={AUTHORS: 1})
    search_rate: float = option(1e-3, "Size η of an ascent step.", at_least=0, otherwise={AUTHORS: 1e-2})
    search_adam: bool = option(
        False, "Ascend with Adam; else by the plain gradient, as the algorithm has it.", otherwise={AUTHORS: True}
    )
    tau: float = option(2.0, "Temperature τ.", above=0)
    hard: bool = option(True, "One word, or a mixture of all.", flag="--hard/--soft")

    @property
    def inner_steps(self) -> int:
        return self.search_steps

    def begin(self, ground: Ground) -> GumbelFinder:
        candidates = ground.prompts.candidates
        return GumbelFinder(self, torch.zeros(candidates.shape[:2], device=ground.device, requires_grad=True))


@dataclass
class GumbelFinder:
    """One set of logits a concept, `(concepts, K)`, kept for the whole run."""

    search: Gumbel
    logits: Tensor

    def __post_init__(self) -> None:
        kind = torch.optim.Adam if self.search.search_adam else torch.optim.SGD
        self.optimizer = kind([self.logits], self.search.search_rate, maximize=True)

    def find(self, request: Request) -> SearchResult:
        """Ascend, then draw once more. What is mixed are whole prompt embeddings."""
        for iteration in range(self.search.search_steps):
            with request.counter.purpose("search"):
                self.logits.grad = request.reduced(self._gradient(request, request.noise(iteration)))
            self.optimizer.step()
        outer = request.outer
        with torch.no_grad():
            weights = self._draw(outer.concept, request.noise(self.search.search_steps))
            return SearchResult(
                request.prompts.mixed(outer.concept, outer.template, weights), weights.argmax(-1).tolist()
            )

    def _gradient(self, request: Request, noise: Tensor) -> Tensor:
        """Of the mean score over this process's rows."""
        points = request.fresh()
        gradient = torch.zeros_like(self.logits)
        for rows, part in request.parts(points):
            mixed = request.prompts.mixed(part.concept, part.template, self._draw(part.concept, noise[rows]))
            gradient += torch.autograd.grad(request.passes.score(part, mixed).sum(), self.logits)[0] / len(points)
        return gradient

    def _draw(self, concept: Tensor, noise: Tensor) -> Tensor:
        return gumbel_softmax(self.logits[concept], noise.to(self.logits), self.search.tau, self.search.hard)

    def state_dict(self) -> dict[str, Any]:
        return {"logits": self.logits.detach().clone(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.optimizer.load_state_dict(state["optimizer"])
