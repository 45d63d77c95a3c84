"""What a search is: options that begin it for a run, what it is asked before an outer step, and what it answers.

A new one is a file with a `Search` and a line in `editkit.plugins`; another package names its own by an entry point of
the group `editkit.searches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.variant import TextStream
from editkit.options import check_options, settle
from editkit.tuning.denoisers import PassCounter
from editkit.tuning.latents import Points
from editkit.tuning.passes import Passes
from editkit.tuning.prompts import Prompts

Projections = Mapping[str, tuple[Tensor, Tensor]]
"""Projections that read the prompt: name → (untrained, now)."""


@dataclass(frozen=True)
class SearchResult:
    """The searched prompts of the outer step.

    Attributes:
        searched: one a row.
        which: number of the (most weighted) candidate of every row; none where no candidate was searched.
    """

    searched: Condition
    which: list[int]


class Finder(Protocol):
    """A search in a run: `find` answers a request; its state is part of a checkpoint."""

    def find(self, request: Request) -> SearchResult: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Ground:
    """Where a search looks.

    Attributes:
        prompts: the candidates, among others.
        device: of the denoiser.
        streams: field of `Condition` → the projections that read it.
        projections: the student's projections now.
        edited: those of a closed-form edit of the same concepts, for a search that `ranks_by_edit`; else none.
    """

    prompts: Prompts
    device: torch.device
    streams: Mapping[str, TextStream]
    projections: Callable[[], Projections]
    edited: Projections


@dataclass(frozen=True)
class Search:
    """A way to find the concept that suffers most: its options, and `begin`.

    Attributes:
        name: as it is registered.
        ascends: whether it runs the networks with gradients, which planned memory must hold.
        ranks_by_edit: whether it reads `Ground.edited`.
        reads_words: whether it looks among words.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    ascends: ClassVar[bool] = False
    ranks_by_edit: ClassVar[bool] = False
    reads_words: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settle(self, {})
        check_options(self)

    @property
    def inner_steps(self) -> int:
        """Batches of other points that it reads before an outer step."""
        return 0

    def begin(self, ground: Ground) -> Finder:
        """The search at the start of a run."""
        raise NotImplementedError


@dataclass(frozen=True)
class Request:
    """One outer step's search.

    Attributes:
        step: of the run.
        outer: the points of the outer step, this process's rows.
        fresh: other points of the same concepts, for an inner step.
        probe: so many points of one concept that stay until the latents are drawn anew, at step `drawn`.
        passes: what the networks can be run on; `passes.score` is what the search maximises.
        micro: rows that are run at a time with gradients.
        noise: standard Gumbel samples `(rows, K)`. They are drawn for all processes together, so that a run does not
            depend on how many there are.
        random: row of `outer` → a generator of its own, whichever process has it.
        reduced: the mean of a gradient over all processes.
    """

    step: int
    drawn: int
    outer: Points
    fresh: Callable[[], Points]
    probe: Callable[[int, int], Points]
    passes: Passes
    micro: int
    noise: Callable[[int], Tensor]
    random: Callable[[int], torch.Generator]
    reduced: Callable[[Tensor], Tensor]

    @property
    def prompts(self) -> Prompts:
        return self.passes.prompts

    @property
    def counter(self) -> PassCounter:
        return self.passes.networks.counter

    def parts(self, points: Points) -> Iterator[tuple[slice, Points]]:
        for start in range(0, len(points), self.micro):
            rows = slice(start, start + self.micro)
            yield rows, points[rows]
