"""The embedding that brings a concept back, in closed form: the attack that RECE defends against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gate import moved
from editkit.edits.gram import norm
from editkit.edits.rece import derive
from editkit.errors import EditkitError
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.target import Target


@dataclass(frozen=True)
class Embedding(Checked):
    """Feed the regularised embeddings that make the edited model answer as the original does to the concept."""

    changes: ClassVar[Changes] = "rows"
    access: ClassVar[str] = "projections"
    source: ClassVar[str] = "Gong et al. 2024, Eq. 7 and 8"

    attack_reg: float = option(1e-3, "λ_r of the derived embeddings, in shares of the mean of G's diagonal.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """One attempt a prompt: all its rows, derived. The loss is the share of its keys and values that is not back.

        Raises:
            EditkitError: the variant has no one map of the token rows.
        """
        stream = arena.model.streams[0]
        M = _map(arena)
        gate = None if arena.variant is None else arena.variant.gate
        gram = stream.gram
        reg = self.attack_reg * float(gram.diagonal().mean())
        attempts = []
        for prompt, rows in zip(target.prompts, arena.model.encoder.encode(list(target.prompts)), strict=True):
            derived = derive(M, gram, rows, reg)

            def missed(fed: Tensor, wanted: Tensor = rows) -> float:
                return norm(moved({"text": fed[None]}, {"text": M}, gate)["text"][0] - wanted, gram) / norm(
                    wanted, gram
                )

            attempts.append(Proposal(prompt, rows=derived.float(), loss=missed(derived), plain=missed(rows)))
        arena.cost.encodings += len(target.prompts)
        return attempts


def _map(arena: Arena) -> EditMap:
    stream, variant = arena.model.streams[0], arena.variant
    if variant is None:
        return EditMap.identity(stream.width, stream.gram.device)
    M = arena.model.map_of(variant, stream)
    if M is None:
        raise EditkitError(
            "attack embedding: is for edits by one map, this variant changes weights of its own; use cce-rows"
        )
    return M.to(stream.gram.device)
