"""`gumbel`: gradient ascent on the logits of a Gumbel-Softmax over the candidates.

Adversarial preservation, Algorithm 1: https://arxiv.org/abs/2410.15618.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.tuning.search.request import Found, Request


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


@dataclass
class Gumbel:
    """One set of logits a concept, kept for the whole run.

    Attributes:
        iterations, rate: ascent steps before every outer step, and their size η.
        tau, hard: of the Gumbel-Softmax.
        adam: ascend with Adam, as the authors' code does; else plain gradient ascent, as the paper's algorithm.
    """

    concepts: int
    candidates: int
    iterations: int
    rate: float
    tau: float
    hard: bool
    adam: bool
    device: torch.device

    def __post_init__(self) -> None:
        self.logits = torch.zeros(self.concepts, self.candidates, device=self.device, requires_grad=True)
        kind = torch.optim.Adam if self.adam else torch.optim.SGD
        self.optimizer = kind([self.logits], self.rate, maximize=True)

    def find(self, request: Request) -> Found:
        """Ascend, then draw once more. What is mixed are whole prompt embeddings."""
        for iteration in range(self.iterations):
            with request.counter.purpose("search"):
                self.logits.grad = request.reduced(self._gradient(request, request.noise(iteration)))
            self.optimizer.step()
        outer = request.outer
        with torch.no_grad():
            weights = self._draw(outer.concept, request.noise(self.iterations))
            return Found(request.prompts.mixed(outer.concept, outer.template, weights), weights.argmax(-1).tolist())

    def _gradient(self, request: Request, noise: Tensor) -> Tensor:
        """Of the mean score over this process's rows."""
        points = request.fresh()
        gradient = torch.zeros_like(self.logits)
        for rows, part in request.parts(points):
            mixed = request.prompts.mixed(part.concept, part.template, self._draw(part.concept, noise[rows]))
            gradient += torch.autograd.grad(request.score(part, mixed).sum(), self.logits)[0] / len(points)
        return gradient

    def _draw(self, concept: Tensor, noise: Tensor) -> Tensor:
        return gumbel_softmax(self.logits[concept], noise.to(self.logits), self.tau, self.hard)

    def state_dict(self) -> dict[str, Any]:
        return {"logits": self.logits.detach().clone(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.optimizer.load_state_dict(state["optimizer"])
