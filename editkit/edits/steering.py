"""Edits that are linear in their weights: balance a concept by adding some of each attribute to its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.edit import EVERYWHERE
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import norm
from editkit.edits.method import Method
from editkit.edits.problem import Problem, Rows, Solution

Weights = Sequence[Tensor]
"""`α` of each concept, one number an attribute."""


@dataclass(frozen=True)
class Steering:
    """`M(α) = I + s_e (Σ_t α_t A_t)ᵀ V` of one stream of embeddings, with `V = C B⁻¹`: UCE's Eq. 7 with the targets
    `C + Σ_t α_t A_t`.

    `B` does not depend on the targets, so neither does `V`: other weights need no new solve.

    Attributes:
        problem: its rows' sources are those of the concepts, `C` `(n, d)` in all.
        moves: `A` of each concept, `(t, rows of the concept, d)` float64: how each attribute moves its rows.
        solution: what was solved once; its maps are those of the first weights.
        erase_scale: `s_e`.
    """

    problem: Problem
    moves: tuple[Tensor, ...]
    solution: Solution
    erase_scale: float

    @classmethod
    def of(cls, method: Method, problem: Problem, moves: Sequence[Tensor], first: Weights) -> Steering:
        """Solve once.

        Args:
            method: one whose map is a ridge regression, such as UCE; it says what is held, and how.
            problem: targets of its rows do not count.
            moves: see `Steering`.
            first: weights for which the vocabulary's most damaged words are looked for, and held most: every multiple
                of them damages the same ones most.
        """
        parts = tuple(move.double() for move in moves)
        steered = _towards(problem, parts, first)
        return cls(problem, parts, method.solve(steered), method.scale_for(steered))

    @cached_property
    def V(self) -> Tensor:
        """`C B⁻¹`, `(n, d)` float64; of the directions that may be read, `C N (NᵀBN)⁻¹ Nᵀ`."""
        C, N = self.problem.C, self.solution.allowed
        inside = C if N is None else C @ N
        V = torch.cholesky_solve(inside.T, torch.linalg.cholesky(self.solution.B)).T
        return V if N is None else V @ N.T

    def map(self, weights: Weights) -> EditMap:
        """`M(α)`."""
        moved = [_moved(move, some) for move, some in zip(self.moves, weights, strict=True)]
        return EditMap(self.erase_scale * torch.cat(moved).T, self.V).compact()

    def solved(self, weights: Weights) -> tuple[Solution, Problem]:
        """The solution with the map of `weights`, and the problem that it is one of: what figures are measured by."""
        return replace(self.solution, maps={EVERYWHERE: self.map(weights)}), _towards(self.problem, self.moves, weights)

    def damage(self, weights: Weights) -> float:
        """Of the most damaged protected word; 0 where there is none."""
        words = self.problem.protected
        return (
            0.0 if words is None or not words.words else float(words.damage(self.map(weights), self.problem.gram).max())
        )

    def reach(self) -> list[float]:
        """How far the attributes lie apart for each concept, in shares of the size of its rows: the mean of
        `‖A_t − Ā‖ / ‖C‖` in `G`."""
        gram = self.problem.gram
        own = [sum(norm(each, gram) for each in apart(move)) / len(move) for move in self.moves]
        return [far / norm(part.source, gram) for far, part in zip(own, self.problem.rows, strict=True)]

    def alike(self) -> Tensor:
        """`⟨A_is − Ā_i, A_it − Ā_i⟩` in `G`, concept by concept, `(concepts, t, t)`."""
        return torch.stack([self._inner(apart(move), apart(move)) for move in self.moves])

    def pulls(self) -> Tensor:
        """`⟨A_is − Ā_i, (M_jt − I) C_i⟩` in `G`, `(concepts, t, concepts, t)`: how much of its own attribute `s` the
        rows of concept `i` are moved by a weight of 1 for attribute `t` of concept `j`."""
        readers = self.V.split([move.shape[1] for move in self.moves])
        of_weights = [
            torch.stack(
                [
                    self._inner(apart(own), self._moved_by(part, V, move))
                    for V, move in zip(readers, self.moves, strict=True)
                ]
            )
            for own, part in zip(self.moves, self.problem.rows, strict=True)
        ]
        return torch.stack(of_weights).transpose(1, 2)

    def _moved_by(self, rows: Rows, V: Tensor, move: Tensor) -> Tensor:
        return torch.einsum("nm,tmd->tnd", self.erase_scale * rows.source.double() @ V.T, apart(move))

    def _inner(self, some: Tensor, others: Tensor) -> Tensor:
        return torch.einsum("snd,tnd->st", some @ self.problem.gram, others)


def apart(move: Tensor) -> Tensor:
    """What sets the attributes apart, `(t, n, d)`: what all do alike, such as a token more before the concept, does
    not. Weights that sum to 0 leave it out."""
    return move - move.mean(dim=0)


def _towards(problem: Problem, moves: Sequence[Tensor], weights: Weights) -> Problem:
    """The same with the targets `C + Σ_t α_t A_t`."""
    rows = [
        Rows(part.source, part.source.double() + _moved(move, some))
        for part, move, some in zip(problem.rows, moves, weights, strict=True)
    ]
    return replace(problem, rows=tuple(rows))


def _moved(move: Tensor, weights: Tensor) -> Tensor:
    """`Σ_t α_t A_t`, `(rows, d)`."""
    return torch.einsum("t,tnd->nd", weights.double().to(move.device), move)
