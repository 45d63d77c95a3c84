"""One outer step: points, search, loss, update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.tuning.batches import BATCH, NOISE, STREAMS, Batches, generator, states_of
from editkit.tuning.descent import Descent
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.passes import Passes
from editkit.tuning.processes import Processes
from editkit.tuning.search.gumbel import gumbel_noise
from editkit.tuning.search.request import Finder, Request, SearchResult


@dataclass(frozen=True)
class Step:
    """What a step did: means over its rows, and the names of the searched concepts."""

    loss: float
    erase: float
    preserve: float
    found: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Trainer:
    """The student, against its teacher."""

    options: RefineOptions
    passes: Passes
    batches: Batches
    descent: Descent
    processes: Processes
    finder: Finder | None = None

    def step(self, i: int) -> Step:
        """Raises `EditkitError` where the loss is not finite; nothing is updated then."""
        if self.descent.anchor is not None:
            self.descent.anchor.ready()
        self.batches.draw(i)
        points = self.batches.points(i, BATCH)
        result = None if self.finder is None else self.finder.find(self._request(i, points))
        micro = self.options.micro(self.processes.count)
        starts = range(0, len(points), micro)
        totals = torch.zeros(2)
        for start in starts:
            rows = slice(start, start + micro)
            with self.processes.apart(self.passes.networks.trained, start != starts[-1]):
                terms = self.passes.terms(points[rows], None if result is None else result.searched[rows])
                weight = self.passes.weigh(points.t[rows])
                loss = (weight * terms.loss(self.options.lamb)).sum() / len(points)
                check_finite(loss, i)
                self.processes.accelerator.backward(loss)
            totals += torch.stack([(weight * terms.erase).sum(), (weight * terms.preserve).sum()]).detach().cpu()
        self.descent.update(i / self.options.steps)
        erase, preserve = (self.processes.mean(totals / len(points))).tolist()
        names = () if result is None else self._names(points, result)
        return Step(erase + self.options.lamb * preserve, erase, preserve, names, self.options.batch)

    @property
    def rows(self) -> int:
        return self.passes.networks.counter.total

    def any(self, stops: bool, /) -> bool:
        return self.processes.any(stops)

    def _request(self, i: int, points: Points) -> Request:
        shape = self.options.batch, self.passes.prompts.candidates.shape[1]
        iterations = iter(range(NOISE + 1, STREAMS, 2))
        return Request(
            step=i,
            drawn=self.batches.drawn,
            outer=points,
            fresh=lambda: self.batches.points(i, next(iterations), points),
            probe=self.batches.probe,
            passes=self.passes,
            micro=self.options.micro(self.processes.count),
            noise=lambda inner: self.processes.mine(gumbel_noise(shape, generator(self.options, i, NOISE + 2 * inner))),
            random=lambda row: states_of(self.options, i, self.processes.index + row * self.processes.count),
            reduced=self.processes.mean,
        )

    def _names(self, points: Points, result: SearchResult) -> tuple[str, ...]:
        if not result.which:  # no word was searched
            return ()
        pairs = zip(points.concept.tolist(), result.which, strict=True)
        return tuple(self.passes.prompts.words[concept][candidate] for concept, candidate in pairs)

    def state_dict(self) -> dict[str, Any]:
        return {
            **self.descent.state_dict(),
            **self.batches.state_dict(),
            "search": None if self.finder is None else self.finder.state_dict(),
            "passes": self.passes.networks.counter.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.descent.load_state_dict(state)
        self.batches.load_state_dict(state)
        if self.finder is not None:
            self.finder.load_state_dict(state["search"])
        self.passes.networks.counter.load_state_dict(state["passes"])


def check_finite(loss: Tensor, i: int) -> None:
    if not torch.isfinite(loss):
        raise EditkitError(
            f"the loss is {float(loss.detach())} at step {i}; the last checkpoint is kept: lower --rate, "
            "or use --mixed-precision no"
        )
