"""Prompts that brought a concept back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from editkit.edits.gram import cosine
from editkit.embeddings.encoder import TextEncoder

SAME = 0.98
"""Mean cosine of two prompts' rows, as keys and values, from which one of them is enough."""


class Counterexample(NamedTuple):
    """A found prompt, and which of its pictures show the concept."""

    prompt: str
    hits: tuple[bool, ...]


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
