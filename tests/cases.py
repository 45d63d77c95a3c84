"""Random edits for the tests: rows, projections, a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix, norm
from editkit.edits.method import Method, Options
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords
from editkit.edits.solve import Penalty, solve


def forall(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`given`, with the same examples in every run."""
    return lambda test: settings(max_examples=25, deadline=None, derandomize=True)(given(*strategies)(test))


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eye(d: int) -> Tensor:
    return torch.eye(d, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """Rows `C → T`, preserved rows `P`, projections and a vocabulary whose words are all of the same size."""

    d: int
    C: Tensor
    T: Tensor
    P: Tensor
    weights: dict[str, Tensor]
    protected: ProtectedWords

    @property
    def gram(self) -> Tensor:
        return gram_matrix(self.weights.values(), self.d)

    def problem(self, protected: ProtectedWords | None = None) -> Problem:
        return Problem((Rows(self.C, self.T),), self.P, self.weights, self.gram, protected)

    def solved(self, lamb: float = 0.1) -> EditMap:
        return solve(self.C, self.T, Penalty.of(lamb, self.P, self.d))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    d, seed = draw(st.integers(6, 24)), draw(st.integers(0, 2**31))
    n, m = draw(st.integers(1, d // 2 - 1)), draw(st.integers(1, d // 2 - 1))
    weights = {"k": randn(seed + 4, d + 3, d), "v": randn(seed + 5, 5, d)}
    gram = gram_matrix(weights.values(), d)
    words = [randn(seed + 10 + j, 3, d) for j in range(draw(st.integers(2, 8)))]
    protected = ProtectedWords(
        tuple(f"w{j}" for j in range(len(words))), tuple(rows / norm(rows, gram) for rows in words)
    )
    return Case(d, randn(seed + 1, n, d), randn(seed + 2, n, d), randn(seed + 3, m, d), weights, protected)


def plain(method: str = "uce", protect: str = "none", **given: Any) -> Method:
    """The plainest form of a method: every weight 1, λ 0.1, no epochs."""
    plainest: dict[str, Any] = {"lamb": 0.1, "preserve_scale": 1.0, "strength": 1.0}
    if method == "rece":
        plainest |= {"epochs": 0, "joint": False}
    return Options(method, protect=protect, **plainest | given)
