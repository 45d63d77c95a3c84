"""Textual inversions of several vectors (Gal et al. 2022, "An image is worth one word", section 3).

A vector is a token of its own. diffusers stores the vectors of the token `X` as `X`, `X_1`, `X_2`, …, and its pipelines
write all of them where a prompt says `X`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Inversions:
    """The textual inversions of a tokenizer that have two vectors or more.

    Attributes:
        vectors: token → the tokens of all its vectors, itself first.
    """

    tokenizer: Any
    vectors: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, tokenizer: Any) -> Inversions:
        added = tokenizer.added_tokens_encoder
        vectors = {token: _vectors(token, added) for token in added}
        return cls(tokenizer, {token: names for token, names in vectors.items() if len(names) > 1})

    def expand(self, prompt: str) -> str:
        """`prompt` with all vectors of every token: `TextualInversionLoaderMixin.maybe_convert_prompt` of diffusers.

        As there, a tokenizer that ignores case reads `<CAT>` as the token `<cat>`, but only `<cat>` is expanded.
        """
        if not any(token in prompt for token in self.vectors):
            return prompt
        for token in dict.fromkeys(self.tokenizer.tokenize(prompt)):
            if token in self.vectors:
                prompt = prompt.replace(token, " ".join(self.vectors[token]))
        return prompt

    def start(self, ids: Sequence[int], at: int) -> int:
        """Position of the first vector of the inversion whose last one is at `at`; for any other token, `at`."""
        first = self._first.get(ids[at])
        return next((n for n in reversed(range(at)) if ids[n] == first), at)

    @cached_property
    def _first(self) -> dict[int, int]:
        """Id of an inversion's last vector → id of its first."""
        number = self.tokenizer.added_tokens_encoder
        return {number[names[-1]]: number[names[0]] for names in self.vectors.values()}


def _vectors(token: str, added: Mapping[str, int]) -> tuple[str, ...]:
    names = [token]
    while (name := f"{token}_{len(names)}") in added:
        names.append(name)
    return tuple(names)
