"""`learned`: no word at all, but a state that draws the concept, learned beside the student, as AEGIS does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.options import option
from editkit.tuning.objectives import distance
from editkit.tuning.search.request import Ground, Request, Search, SearchResult


@dataclass(frozen=True)
class Learned(Search):
    """Learn a state `c'` for each concept, with which the teacher predicts what it does of the concept itself, and what
    the student still does.

    Before every outer step `c' ← c' − β sign ∇ (‖ε(c') − ε'(c_e)‖² + ‖ε(c') − ε(c_e)‖²)`, from the concept's own states
    in the first template. AEGIS learns one token before the text encoder; here all rows behind it are learned.

    Source: AEGIS (2026), https://arxiv.org/abs/2602.06771, by notes of others.
    """

    name: ClassVar[str] = "learned"
    source: ClassVar[str] = "AEGIS (2026), https://arxiv.org/abs/2602.06771"
    ascends: ClassVar[bool] = True
    reads_words: ClassVar[bool] = False

    beta: float = option(1e-3, "Size of a step of the learned state, in each of its numbers.", at_least=0)

    def begin(self, ground: Ground) -> LearnedFinder:
        number = torch.arange(ground.prompts.count, device=ground.device)
        return LearnedFinder(self, ground.prompts.e(number, torch.zeros_like(number)))


@dataclass
class LearnedFinder:
    """One state a concept.

    Attributes:
        states: a row each.
    """

    search: Learned
    states: Condition

    def find(self, request: Request) -> SearchResult:
        """Step once on this step's points, then answer with the state of every row's concept."""
        learned = self._learned()
        for value in learned.values():
            value.requires_grad_()
        with request.counter.purpose("search"):
            gradients = [torch.zeros_like(value) for value in learned.values()]
            for part in self._losses(request):
                for total, gradient in zip(gradients, torch.autograd.grad(part, list(learned.values())), strict=True):
                    total += gradient
        with torch.no_grad():
            for value, gradient in zip(learned.values(), gradients, strict=True):
                value -= self.search.beta * request.reduced(gradient).sign()
                value.requires_grad_(False)
        return SearchResult(self.states[request.outer.concept], [])

    def _learned(self) -> dict[str, Tensor]:
        names = ("text", "pooled") if self.states.pooled is not None else ("text",)
        return {name: getattr(self.states, name) for name in names}

    def _losses(self, request: Request) -> Iterator[Tensor]:
        """Sums over parts of this process's rows."""
        networks = request.passes.networks
        for _, points in request.parts(request.outer):
            concept = request.prompts.e(points.concept, points.template)
            with torch.no_grad():
                now = networks.student(points.z, points.t, concept)
                was = networks.teacher(points.z, points.t, concept) if points.e is None else points.e
            said = networks.teacher(points.z, points.t, self.states[points.concept])
            yield (distance(said, now) + distance(said, was)).sum()

    def state_dict(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self._learned().items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        known = {name: value.to(self.states.text.device) for name, value in state.items()}
        self.states = replace(self.states, **known)
