"""A search for the concept that suffers most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from editkit.options import option
from editkit.tuning.search.request import Ground, Request, Search, SearchResult


@dataclass(frozen=True)
class InTurn(Search):
    """Take the candidates in turn."""

    name: ClassVar[str] = "in-turn"

    turn: int = option(1, "Steps before the next.", at_least=1)

    def begin(self, ground: Ground) -> InTurnFinder:
        return InTurnFinder(self)


@dataclass
class InTurnFinder:
    """Has no state: the step says whose turn it is."""

    search: InTurn

    def find(self, request: Request) -> SearchResult:
        outer, k = request.outer, request.prompts.candidates.shape[1]
        which = torch.full_like(outer.concept, request.step // self.search.turn % k)
        return SearchResult(request.prompts.a(outer.concept, which, outer.template), which.tolist())

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        pass
