"""Prompts to embedding rows: one tokenizer's part of what a denoiser reads, each prompt encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.embeddings.cache import cached
from editkit.embeddings.rows import last_subject_token
from editkit.embeddings.states import States, finite, spoken
from editkit.errors import EditkitError
from editkit.hardware import has_fast_bfloat16

SHORT = 32
BIG, MANY = 768, 50
"""Width and number of prompts from which bfloat16 is used."""


@dataclass
class TextEncoder:
    """A tokenizer and the rows that its tokens become.

    Attributes:
        states: prompts and how many rows of each → `(Σ rows, width)`; see `editkit.embeddings.states`.
        length: positions of a padded prompt.
        fingerprint: names the weights that the rows come from; the disk cache goes by it.
        causal: a row depends on what stands before it alone, so a shorter sequence gives the very same first rows.
        pooled: one row stands for the whole prompt.
    """

    tokenizer: Any
    states: States
    width: int
    length: int
    fingerprint: str
    causal: bool = True
    pooled: bool = False
    _known: dict[tuple[str, int], Tensor] = field(default_factory=dict, repr=False)
    _tokenized: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False)

    @property
    def spare(self) -> int:
        """Padding rows after the end of a prompt that stand for all the others: they change little in a long one."""
        return 8 if self.length <= SHORT else 1

    def tokens(self, prompt: str) -> list[int]:
        """Token ids with start and end token, as far as the tokenizer has them, without padding.

        Raises:
            EditkitError: the prompt is longer than the encoder reads.
        """
        ids = self._ids(spoken([prompt])[0], True)
        limit = self.tokenizer.model_max_length if self.pooled else self.length
        if len(ids) > limit:
            raise EditkitError(
                f"prompt {prompt[:40]!r}: {len(ids)} tokens, but this text encoder reads {limit}; shorten it"
            )
        return ids

    def rows_in(self, prompt: str) -> int:
        """How many rows come before padding."""
        return 1 if self.pooled else len(self.tokens(prompt))

    def subject_at(self, template: str, words: str) -> int:
        """Row of the last token of `words` in `fill(template, words)`."""
        if self.pooled:
            return 0
        suffix = self._ids(template.split("{}", 1)[1], False)
        return last_subject_token(self.tokens(fill(template, words)), suffix)

    def subject_size(self, words: str) -> int:
        """How many rows `words` are, at least one."""
        if self.pooled:
            return 1
        return max(1, len(self._ids(words, False)))

    def _ids(self, text: str, special: bool) -> list[int]:
        """Thousands of words are asked for several times each."""
        key = (text, special)
        if key not in self._tokenized:
            self._tokenized[key] = self.tokenizer(text, truncation=False, add_special_tokens=special).input_ids
        return self._tokenized[key]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """`(prompts, length, width)` float64 on the CPU.

        Computed in float32; a list of `MANY` prompts or more by a large encoder in bfloat16 where that is fast.
        """
        return torch.stack(self.encode_each(prompts, self.length)).double()

    def encode_each(self, prompts: Sequence[str], spare: int, keep: bool = False) -> list[Tensor]:
        """Rows of every prompt up to `spare` after its end, as far as the encoder goes: `(rows_in + spare, width)`
        float32 each. Precision as for `encode`. With `keep`, a long list is kept on disk."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, spare) not in self._known]
        if missing:
            sizes = [min(self.length, self.rows_in(prompt) + spare) for prompt in missing]
            mark = self._mark(missing) if keep else None
            rows = cached(mark, missing, spare, lambda: self._run(missing, sizes))
            self._known.update(((prompt, spare), one) for prompt, one in zip(missing, rows.split(sizes), strict=True))
        return [self._known[prompt, spare] for prompt in prompts]

    def encode_words(self, prompts: Sequence[str]) -> list[Tensor]:
        """`encode_each` for a long list: a causal encoder spends no time on its padding."""
        return self.encode_each(prompts, self.spare, keep=True)

    def _run(self, prompts: Sequence[str], sizes: Sequence[int]) -> Tensor:
        return finite(self.states(prompts, sizes, self._coarse(prompts)))

    def _mark(self, prompts: Sequence[str]) -> str:
        """What rows on the disk go by: weights, precision, and the tokens that were read."""
        reads = [self.tokenizer.pad_token_id, self.tokenizer.model_max_length, [self.tokens(one) for one in prompts]]
        precision = "bfloat16" if self._coarse(prompts) else "float32"
        return f"{self.fingerprint}-{precision}-{hashlib.sha256(repr(reads).encode()).hexdigest()}"

    def _coarse(self, prompts: Sequence[str]) -> bool:
        """Whether to encode in bfloat16: a word list enters an edit as means over hundreds of rows, where three digits
        do, and in float32 it would take longer than all the rest."""
        return self.width >= BIG and len(prompts) >= MANY and has_fast_bfloat16()
