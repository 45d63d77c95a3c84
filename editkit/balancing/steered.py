"""A model whose concepts are steered: solved once, an edit for any weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.balancing.loop import Weights
from editkit.balancing.rows import Steered, bare_rows, steered_rows
from editkit.concepts.attributes import Attribute
from editkit.edits.edit import EVERYWHERE, Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.figures import measure
from editkit.edits.steering import Steering
from editkit.erasure.make import Request, edited_streams, no_values, problem_of, record_of
from editkit.errors import EditkitError
from editkit.model.editable import Stream

LOG_ODDS = 12.0
"""What moving a concept's rows by their own size is thought to change at first. On the bundled model a quarter of that
takes a gender from 20 % to 80 %; what is true of a model is learnt from the second round on."""
RANK = 1e-9
"""Of the largest singular value: attributes that move rows alike are not told apart."""
NOTHING = 1e-6
"""Shares of their size that rows move by rounding alone."""


@dataclass
class SteeredModel:
    """A model's streams, steered together. `begin` comes first.

    What the loop steps are not the weights `α` but what they come to, `β`: how much of its own attributes the rows of a
    concept are moved by, `(M(α) − I) C_i ≈ Σ_t β_it (A_it − Ā_i)` by least squares in `G`. One map serves all concepts,
    and those who are alike pull at each other: `β = K α` with a `K` that is known, so that a concept stays where it is
    while others step. UCE's published loop steps `α` itself.
    """

    request: Request
    attributes: Sequence[Attribute]
    is_published: bool = False
    parts: list[tuple[Stream, Steering]] = field(default_factory=list)
    _weights_of: Tensor | None = field(default=None, init=False)

    def begin(self, first: Weights) -> dict[str, float]:
        """Solve every stream; concept → log-odds that a step of 1 is thought to be worth.

        Raises:
            EditkitError: the attributes leave a concept's rows where they are.
        """
        model, options = self.request.model, self.request.options
        for stream in edited_streams(self.request):
            if not stream.inputs:
                continue
            with self.request.clock("embeddings"):
                rows = [self._rows(stream, concept) for concept in self.request.concepts]
            problem = problem_of(self.request, stream, [each.unmoved for each in rows])
            with self.request.clock("solve"):
                steering = Steering.of(options, problem, [each.moves for each in rows], self._ordered(first))
            self.parts.append((stream, steering))
        if not self.parts:
            raise no_values(model)
        reach = dict(zip(self.request.concepts, self.parts[0][1].reach(), strict=True))
        for concept, far in reach.items():
            if far < NOTHING:
                raise EditkitError(
                    f"concept {concept!r}: no attribute moves the rows of --tokens {options.tokens} apart; one that "
                    "stands behind the concept moves those of --tokens tail alone"
                )
        if not self.is_published:
            self._weights_of = self._decoupled()
        return {concept: LOG_ODDS * far for concept, far in reach.items()}

    def _decoupled(self) -> Tensor:
        """`K⁺`, `(concepts · t, concepts · t)`: from what is asked of all concepts to the weights of all."""
        alike = sum_of(steering.alike() for _, steering in self.parts)
        pulls = sum_of(steering.pulls() for _, steering in self.parts)
        K = torch.einsum("ist,itju->isju", torch.linalg.pinv(alike, rtol=RANK), pulls)
        return torch.linalg.pinv(K.flatten(2).flatten(0, 1), rtol=RANK)

    def _rows(self, stream: Stream, concept: str) -> Steered:
        if self.is_published:
            return bare_rows(stream.encoders, concept, self.attributes)
        profile, tokens = self.request.model.profile, self.request.options.tokens
        return steered_rows(stream.encoders, concept, self.attributes, profile.templates_for(concept), tokens)

    def damage(self, weights: Weights) -> float:
        """Of the worst protected word in any stream."""
        return max((steering.damage(self._ordered(weights)) for _, steering in self.parts), default=0.0)

    def edit(self, weights: Weights, with_record: bool = False) -> Edit:
        """The edit of given weights, with its figures if asked."""
        model, options = self.request.model, self.request.options
        maps: dict[str, EditMap] = {}
        figures: dict[str, dict[str, Any]] = {}
        for stream, steering in self.parts:
            solution, problem = steering.solved(self._ordered(weights))
            maps[model.key(stream)] = stream.whole(solution.maps[EVERYWHERE])
            if with_record:
                with self.request.clock("figures"):
                    told = measure(solution, problem, options.holds_each_word, self.request.checked)
                figures[stream.rule.stream] = told.as_dict()
        return Edit(maps, record_of(self.request, figures) if with_record else {})

    def weights(self, asked: Weights) -> dict[str, Tensor]:
        """`α` of what the loop asks for."""
        return dict(zip(self.request.concepts, self._ordered(asked), strict=True))

    def _ordered(self, asked: Weights) -> list[Tensor]:
        some = [asked[concept] for concept in self.request.concepts]
        if self._weights_of is None:
            return some
        return list((self._weights_of @ torch.cat(some).double().to(self._weights_of.device)).split(len(some[0])))


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(dim=0)
