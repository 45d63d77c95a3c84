"""SPEED: edit where hardly any preserved word would notice, and hold the empty prompt (Li et al. 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.clusters import centres_of
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import square_root
from editkit.edits.method import (
    LAYERS,
    LAYERS_HELP,
    NULL,
    PROTECT_HELP,
    PROTECTIONS,
    RIDGE_HELP,
    ROWS_HELP,
    STRENGTH_HELP,
    TOKENS,
    UNPROTECTED,
    Layers,
    Method,
    Tokens,
    ridge,
)
from editkit.edits.problem import Problem
from editkit.edits.protect import ProtectedWords, change_root
from editkit.edits.solve import Penalty
from editkit.errors import EditkitError
from editkit.options import option


@dataclass(frozen=True)
class SPEED(Method):
    """Send a concept's rows to its guide's, read only directions that hardly any word uses of those which the edit
    would change most, and hold the empty prompt.
    """

    source: ClassVar[str] = "SPEED 2026 (arXiv 2503.07392), with its filter, augmentation and constraints"

    protect: str = option("null", PROTECT_HELP, choices=PROTECTIONS)
    tokens: Tokens = option("tail", ROWS_HELP, choices=TOKENS, otherwise={NULL: "last", UNPROTECTED: "last"})
    layers: Layers = option("all", LAYERS_HELP, choices=LAYERS, otherwise={NULL: "v", UNPROTECTED: "v"})
    lamb: float = option(1e-4, RIDGE_HELP, at_least=0, otherwise={NULL: 1e-2, UNPROTECTED: 1.0})
    strength: float = option(0.5, STRENGTH_HELP, at_least=0, otherwise={NULL: 0.0})
    filter: bool = option(
        True, "Protect the words that an unprotected edit changes more than the mean word.", flag="--filter/--no-filter"
    )
    augment: bool = option(True, "Hold the direction that the projections read least.", flag="--augment/--no-augment")
    centres: int = option(
        3, "Rows of the empty prompt that are held besides its first: means of the others.", at_least=0
    )
    slack: float = option(0.0, "λ_c of the empty prompt's rows: 0 holds them exactly, a larger one less.", at_least=0)

    @property
    def reads_projections(self) -> bool:
        return super().reads_projections or self.filter or self.augment

    @property
    def reads_empty(self) -> bool:
        return True

    @property
    def guide(self) -> str:
        return " " if self.protect == "null" else super().guide

    def held(self, problem: Problem) -> Tensor | None:
        rows = [] if (known := super().held(problem)) is None else [known.double()]
        if self.augment:
            rows.append(torch.linalg.eigh(problem.gram).eigenvectors[:, :1].T)
        if not self.slack:
            rows.append(self._empty(problem))
        return torch.cat(rows) if rows else None

    def maps(self, problem: Problem, penalty: Penalty, erase_scale: float) -> tuple[Mapping[str, EditMap], Penalty]:
        if self.slack:
            penalty = replace(penalty, rows=torch.cat([penalty.rows, self._empty(problem) / self.slack**0.5]))
        if self.is_protected and self.filter and problem.protected is not None:
            alone = Penalty.of(1.0, None, len(problem.gram), device=problem.gram.device)
            edit = ridge(problem, alone, erase_scale)
            problem = replace(problem, protected=influenced(problem.protected, edit, problem.gram))
        return super().maps(problem, penalty, erase_scale)

    def _empty(self, problem: Problem) -> Tensor:
        if problem.empty is None:
            raise EditkitError("--method speed: the rows of the empty prompt are not known; give `Problem.empty`")
        rows = problem.empty.double()
        return torch.cat([rows[:1], centres_of(rows[1:], self.centres)])


def influenced(words: ProtectedWords, edit: EditMap, gram: Tensor) -> ProtectedWords:
    """The words whose keys and values `edit` changes by more than the mean of them (SPEED's influence-based filter).

    The paper asks every layer for itself; here it is all of them together, as the edit is one.
    """
    shifts = (words.sizes(change_root(square_root(gram), edit)) / words.lengths).sqrt()
    chosen = (shifts > shifts.mean()).nonzero()[:, 0].tolist() or range(len(words.words))
    return ProtectedWords(tuple(words.words[j] for j in chosen), tuple(words.rows[j] for j in chosen))
