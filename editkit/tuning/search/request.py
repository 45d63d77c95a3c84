"""What a search is asked before an outer step, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from editkit.tuning.denoisers import Denoisers, PassCounter, predict
from editkit.tuning.latents import Points
from editkit.tuning.objectives import Key, Objective
from editkit.tuning.prompts import Prompts


@dataclass(frozen=True)
class Found:
    """The searched prompts of the outer step.

    Attributes:
        text: embeddings, one a row, `(rows, tokens, width)`.
        which: number of the (most weighted) candidate of every row.
    """

    text: Tensor
    which: list[int]


class Search(Protocol):
    """`find` answers a request; its state is part of a checkpoint."""

    def find(self, request: Request) -> Found: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Request:
    """One outer step's search.

    Attributes:
        step: of the run.
        outer: the points of the outer step, this process's rows.
        fresh: other points of the same concepts, for an inner step.
        probe: a few points of one concept that stay until the latents are drawn anew, at step `drawn`.
        weigh: weights of the rows at their t, `(rows,)`.
        micro: rows that are run at a time with gradients.
        noise: standard Gumbel samples `(rows, K)`; drawn for all processes together, so that their number is no matter.
        reduced: the mean of a gradient over all processes.
    """

    step: int
    drawn: int
    outer: Points
    fresh: Callable[[], Points]
    probe: Callable[[int], Points]
    prompts: Prompts
    networks: Denoisers
    objective: Objective
    lamb: float
    weigh: Callable[[Tensor], Tensor]
    micro: int
    noise: Callable[[int], Tensor]
    reduced: Callable[[Tensor], Tensor]

    @property
    def counter(self) -> PassCounter:
        return self.networks.counter

    def parts(self, points: Points) -> Iterator[tuple[slice, Points]]:
        for start in range(0, len(points), self.micro):
            rows = slice(start, start + self.micro)
            yield rows, points[rows]

    def score(self, points: Points, text: Tensor, target: Tensor | None = None) -> Tensor:
        """What the search maximises, `(rows,)`, for the candidate embeddings `text`.

        `target` is the teacher's output for them, where it is known.
        """
        read: dict[Key, Tensor] = {"a": text}
        if "e" in self.objective.search_reads:
            read["e"] = self.prompts.e(points.concept, points.template)
        student = predict(self.networks.student, points.z, points.t, read)
        if target is None:
            target = self.networks.teacher(points.z, points.t, text)
        return self.weigh(points.t) * self.objective.searched(student, {"a": target}, self.lamb)
