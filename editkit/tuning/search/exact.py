"""`exact`: run student and teacher on every candidate now and then, and take the worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.options import option
from editkit.tuning.search.request import Ground, Request, Search, SearchResult

Shortlist = Callable[[Request, int], Tensor]
"""Which candidates of a concept are run, `(k,)`."""


def every_candidate(request: Request, concept: int) -> Tensor:
    return torch.arange(request.prompts.candidates.shape[1])


@dataclass(frozen=True)
class Exact(Search):
    """Run both networks on every candidate now and then, and take the worst until the next time."""

    name: ClassVar[str] = "exact"

    search_every: int = option(20, "Outer steps between two searches: the student moves slowly.", at_least=1)
    probe: int = option(2, "Points of each concept that the candidates are run on.", at_least=1)

    def begin(self, ground: Ground) -> ExactFinder:
        return ExactFinder(self)


@dataclass
class ExactFinder:
    """Keeps the worst candidate of every concept from one search to the next.

    Attributes:
        rows: candidates that are run at a time.
    """

    search: Exact
    rows: int = 32
    shortlist: Shortlist = every_candidate
    worst: dict[int, int] = field(default_factory=dict)
    _targets: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)
    _drawn: int = -1

    def find(self, request: Request) -> SearchResult:
        if request.step % self.search.search_every == 0 or not self.worst:
            self._score(request)
        outer = request.outer
        which = [self.worst[concept] for concept in outer.concept.tolist()]
        return SearchResult(
            request.prompts.a(outer.concept, torch.tensor(which, device=outer.z.device), outer.template), which
        )

    @torch.no_grad()
    def _score(self, request: Request) -> None:
        if request.drawn != self._drawn:  # other latents, so other outputs of the teacher
            self._targets, self._drawn = {}, request.drawn
        with request.counter.purpose("search"):
            for concept in range(request.prompts.count):
                shortlist = self.shortlist(request, concept)
                self.worst[concept] = int(shortlist[int(self.scores(request, concept, shortlist).argmax())])

    @torch.no_grad()
    def scores(self, request: Request, concept: int, shortlist: Tensor) -> Tensor:
        """The mean of `Passes.score` over the probe of a concept, `(k,)` for the k candidates of the shortlist."""
        probe = request.probe(concept, self.search.probe)
        n = len(probe)
        means = []
        for some in shortlist.split(max(1, self.rows // n)):
            points = probe[torch.arange(n).repeat(len(some))]
            candidate = some.repeat_interleave(n).to(points.z.device)
            read = request.prompts.a(points.concept, candidate, points.template)
            target = self._target(request, concept, some.tolist(), read, n)
            means.append(request.passes.score(points, read, target).view(len(some), n).mean(1))
        return torch.cat(means)

    def _target(self, request: Request, concept: int, candidates: list[int], read: Condition, n: int) -> Tensor:
        """The teacher's outputs on the probe never change: they are computed once."""
        missing = [i for i, candidate in enumerate(candidates) if (concept, candidate) not in self._targets]
        if missing:
            probe = request.probe(concept, self.search.probe)[torch.arange(n).repeat(len(missing))]
            rows = torch.cat([torch.arange(i * n, i * n + n) for i in missing]).to(read.text.device)
            outputs = request.passes.networks.teacher(probe.z, probe.t, read[rows])
            for i, output in zip(missing, outputs.split(n), strict=True):
                self._targets[concept, candidates[i]] = output
        return torch.cat([self._targets[concept, candidate] for candidate in candidates])

    def state_dict(self) -> dict[str, Any]:
        return {"worst": {str(concept): candidate for concept, candidate in self.worst.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.worst = {int(concept): candidate for concept, candidate in state["worst"].items()}
