"""UCE: Unified Concept Editing (Gandikota et al. 2024), in the space of text embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix
from editkit.edits.method import RIDGE_HELP, ROWS_HELP, TOKENS, UNPROTECTED, Method, Tokens
from editkit.edits.problem import Problem
from editkit.edits.solve import Penalty, down_factor
from editkit.errors import EditkitError
from editkit.options import option


@dataclass(frozen=True)
class UCE(Method):
    """Send a concept's rows to its guide's, and hold the preserved prompts."""

    source: ClassVar[str] = "Gandikota et al. 2024, Eq. 7"

    tokens: Tokens = option(
        "tail",
        ROWS_HELP,
        choices=TOKENS,
        otherwise={UNPROTECTED: "last"},
    )
    lamb: float = option(1e-4, RIDGE_HELP, at_least=0, otherwise={UNPROTECTED: 0.5})
    technique: str = option(
        "replace",
        "What a concept's keys and values become: the guide's, or the guide's less their component along its own.",
        choices=("replace", "tensor"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.technique == "tensor" and self.is_protected:
            raise EditkitError("--technique tensor: its targets depend on the layer; use --method uce --protect none")
        if self.technique == "tensor" and self.hard:
            raise EditkitError(
                "--hard: is one map for all layers, and --technique tensor has one each; drop one of them"
            )

    @property
    def reads_projections(self) -> bool:
        return super().reads_projections or self.technique == "tensor"

    def maps(self, problem: Problem, penalty: Penalty, erase_scale: float) -> tuple[Mapping[str, EditMap], Penalty]:
        if self.technique == "replace":
            return super().maps(problem, penalty, erase_scale)
        d = problem.gram.shape[0]
        grams = {name: gram_matrix([W], d) for name, W in problem.projections.items()}
        pairs = [(rows.source, rows.target) for rows in (*problem.rows, *problem.found)]
        return uce_tensor(pairs, penalty, grams, erase_scale), penalty


def uce_tensor(
    concepts: Sequence[tuple[Tensor, Tensor]],
    penalty: Penalty,
    grams: Mapping[str, Tensor],
    erase_scale: float = 1.0,
) -> dict[str, EditMap]:
    """Technique "tensor": the target is `W c*` less its component along `W c`.

    The component's size is one number per concept and layer, `α = ⟨W c*, W c⟩ / ‖W c‖²` with the norm over all rows
    of the concept together. So the target is `W (c* − α c)`: each layer has its own `U`, and `V` stays shared.

    Args:
        concepts: `(C, C*)` of each concept, both `(n, d)`.
        grams: layer name → `WᵀW` `(d, d)`.
    """
    C = torch.cat([source for source, _ in concepts]).double()
    shared = down_factor(C, penalty, erase_scale)
    maps = {}
    for layer, gram in grams.items():
        moves = [_without_component(target.double(), source.double(), gram) - source for source, target in concepts]
        maps[layer] = EditMap(erase_scale * torch.cat(moves).T, shared).compact()
    return maps


def _without_component(target: Tensor, source: Tensor, gram: Tensor) -> Tensor:
    metric = source @ gram
    return target - (target * metric).sum() / (source * metric).sum() * source
