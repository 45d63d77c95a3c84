"""TIME: edit an implicit assumption, "roses" → "blue roses" (Orgad et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import ClassVar

from editkit.edits.method import Method


@dataclass(frozen=True)
class TIME(Method):
    """Edit an implicit assumption: "roses" → "blue roses". The rows of a prompt go to those of another."""

    source: ClassVar[str] = "Orgad et al. 2023, Eq. 4"


def align(source: Sequence[int], destination: Sequence[int], length: int) -> list[int]:
    """For each of `length` source positions, the destination position it must become.

    `source` and `destination` are token ids with start and end token and without padding. A token is aligned to its
    occurrence in the destination; a token that was replaced, to the one that took its place; one that was deleted,
    to the position after the gap. From the end token on the sequences run side by side up to the last position.
    """
    aligned = _occurrences(source, destination) or _matches(source, destination)
    offset = len(destination) - len(source)
    padding = [min(i + offset, length - 1) for i in range(len(source), length)]
    return aligned + padding


def _occurrences(source: Sequence[int], destination: Sequence[int]) -> list[int]:
    """TIME's own rule, for a destination that only adds tokens: the next occurrence of every token. Else empty."""
    places, at = [], -1
    for token in source:
        at = next((j for j in range(at + 1, len(destination)) if destination[j] == token), -1)
        if at < 0:
            return []
        places.append(at)
    return places


def _matches(source: Sequence[int], destination: Sequence[int]) -> list[int]:
    aligned = [0] * len(source)
    for _, a0, a1, b0, b1 in SequenceMatcher(None, source, destination, autojunk=False).get_opcodes():
        for i in range(a0, a1):
            aligned[i] = min(b0 + i - a0, max(b1 - 1, b0))
    return aligned
