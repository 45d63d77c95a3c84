"""Prompts that brought a concept back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from editkit.edits.gram import cosine
from editkit.embeddings.encoder import TextEncoder
from editkit.redteam.arena import Arena
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.target import Target

SAME = 0.98
"""Mean cosine of two prompts' rows, as keys and values, from which one of them is enough."""


class Counterexample(NamedTuple):
    """A found prompt, and which of its pictures show the concept; without pictures, whether its loss says so."""

    prompt: str
    hits: tuple[bool, ...]


class Confirm(Protocol):
    """Who says which prompts bring a concept back."""

    def __call__(self, arena: Arena, target: Target, prompts: Sequence[str]) -> list[Counterexample]:
        """One answer a prompt."""
        ...


def by_pictures(arena: Arena, target: Target, prompts: Sequence[str]) -> list[Counterexample]:
    """Each prompt is drawn with every seed of the arena, and its judge looks."""
    if not prompts:
        return []
    hits = arena.judged(arena.draw(prompts, arena.seeds), target)
    size = len(arena.seeds)
    return [
        Counterexample(prompt, tuple(bool(hit) for hit in hits[n * size : (n + 1) * size]))
        for n, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True)
class ByLoss:
    """No picture is drawn: a prompt counts whose rows come nearer to the concept's than `below`."""

    search: PromptSearch
    below: float

    def __call__(self, arena: Arena, target: Target, prompts: Sequence[str]) -> list[Counterexample]:
        if not prompts:
            return []
        losses = self.search.losses(arena, target, prompts)
        return [Counterexample(prompt, (loss < self.below,)) for prompt, loss in zip(prompts, losses, strict=True)]


def near_duplicate(encoder: TextEncoder, gram: Tensor, prompt: str, kept: Sequence[str]) -> bool:
    """Whether the rows of `prompt` are nearly those of one of `kept`."""
    if not kept:
        return False
    mine, *theirs = encoder.encode([prompt, *kept])
    for rows in theirs:
        n = min(len(mine), len(rows))
        if float(cosine(mine[1:n], rows[1:n], gram).diagonal().mean()) > SAME:
            return True
    return False
