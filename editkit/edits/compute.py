"""From rows to maps: the one place that knows which method is solved how. torch alone; no model, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.edit import EVERYWHERE
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix
from editkit.edits.options import Options
from editkit.edits.protect import Protected, minimax, prior
from editkit.edits.rece import rece
from editkit.edits.solve import Penalty, solve
from editkit.edits.uce import uce_tensor
from editkit.errors import EditkitError


@dataclass(frozen=True)
class Rows:
    """Embedding rows of one concept, and what they must become: `(n, d)` each."""

    source: Tensor
    target: Tensor


@dataclass(frozen=True)
class Problem:
    """Everything an edit is computed from.

    Attributes:
        rows: one entry per concept.
        preserve: `(m, d)` or None.
        projections: layer name → `W` `(o, d)`.
        gram: `Σ WᵀW`.
        protected: the vocabulary, or None where there is none to protect.
    """

    rows: tuple[Rows, ...]
    preserve: Tensor | None
    projections: Mapping[str, Tensor]
    gram: Tensor
    protected: Protected | None

    @cached_property
    def C(self) -> Tensor:
        return torch.cat([one.source for one in self.rows]).double()

    @cached_property
    def targets(self) -> Tensor:
        return torch.cat([one.target for one in self.rows]).double()


@dataclass(frozen=True)
class Solution:
    """The maps (one under `"*"`, or one per layer) and the matrix `B` they were solved with."""

    maps: Mapping[str, EditMap]
    B: Tensor


def compute_edit(problem: Problem, options: Options) -> Solution:
    """Solve `problem` as `options` ask.

    Unprotected, the sums are the papers'. With a protected vocabulary the erased and the preserved rows enter as
    means, so that `lamb` and `strength` weigh the same whatever the number of concepts, templates and positions.
    """
    C, d = problem.C, problem.gram.shape[0]
    if options.protect != "none" and problem.protected is not None and not problem.protected.words:
        raise EditkitError(
            f"--protect {options.protect}: no word is left in the vocabulary; "
            "give a larger --vocabulary, or use --protect none"
        )
    plain = options.protect == "none" or problem.protected is None
    erase_scale = options.erase_scale / (1 if plain else len(C))
    share = 1 if plain or problem.preserve is None else len(problem.preserve)
    penalty = Penalty.of(options.lamb, problem.preserve, d, options.preserve_scale / share)
    if options.technique == "tensor":
        grams = {name: gram_matrix([W], d) for name, W in problem.projections.items()}
        pairs = [(one.source, one.target) for one in problem.rows]
        maps: Mapping[str, EditMap] = uce_tensor(pairs, penalty, grams, erase_scale)
    else:
        found, penalty = _shared_map(problem, options, penalty, erase_scale)
        maps = {EVERYWHERE: found}
    return Solution(maps, penalty.matrix() + erase_scale * C.T @ C)


def _shared_map(problem: Problem, options: Options, penalty: Penalty, erase_scale: float) -> tuple[EditMap, Penalty]:
    C, targets, protected = problem.C, problem.targets, problem.protected

    def solve_with(held: Penalty) -> EditMap:
        if options.method != "rece":  # TIME and UCE differ in the rows they are given, not in what they solve
            return solve(C, targets, held, erase_scale)
        return rece(C, targets, held, problem.gram, options.reg, options.epochs, erase_scale, options.joint)

    if options.protect == "none" or protected is None:
        return solve_with(penalty), penalty
    if options.protect == "prior":
        penalty = prior(protected, penalty, options.strength)
        return solve_with(penalty), penalty
    return minimax(solve_with, protected, problem.gram, penalty, options.strength, options.rounds)
