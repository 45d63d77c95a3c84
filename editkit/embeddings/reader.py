"""Prompts to token ids, as a pipeline writes a prompt and as its tokenizer splits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from editkit.embeddings.inversions import Inversions
from editkit.embeddings.rows import last_subject_token

NO_LIMIT = int(1e30)
"""What transformers says for a tokenizer that states no limit."""


def as_it_is(prompt: str) -> str:
    return prompt


def lower(prompt: str) -> str:
    return prompt.lower().strip()


@dataclass
class Reader:
    """A tokenizer, and what the pipeline does to a prompt before and after it.

    Attributes:
        clean: what the pipeline makes of the text first.
        before, after: what it writes around it: instructions to a language model.
        dropped: positions of tokens that it leaves out of what the denoiser reads.
        multiple: padding goes to the left, up to a multiple of that, and is read like any other token.
        inversions: textual inversions that the pipeline writes all vectors of; None where it does not.
        positions: how many tokens the encoder's weights have positions for; None where they have none.
    """

    tokenizer: Any
    clean: Callable[[str], str] = as_it_is
    before: str = ""
    after: str = ""
    dropped: range = range(0)
    multiple: int = 1
    inversions: Inversions | None = None
    positions: int | None = None
    _known: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False, init=False)

    def ids(self, prompt: str) -> list[int]:
        """Token ids with start and end token, as far as the tokenizer has them, and all that is written around.

        An empty prompt is read as one space, as the reference code of UCE and RECE does.
        """
        ids = self._ids(f"{self.before}{self._as_given(prompt or ' ')}{self.after}", True)
        return [self.tokenizer.pad_token_id] * (-len(ids) % self.multiple) + ids

    def kept(self, prompt: str) -> list[int]:
        """Token ids that the denoiser gets the rows of."""
        return [token for at, token in enumerate(self.ids(prompt)) if at not in self.dropped]

    def part(self, text: str) -> list[int]:
        """Token ids of a piece of a prompt."""
        return self._ids(self._as_given(text), False)

    def size(self, words: str) -> int:
        """How many tokens `words` are in a prompt: many tokenizers split what follows a space otherwise."""
        return len(self._ids(self._as_given(f"a {words}"), True)) - len(self._ids("a", True))

    def subject_at(self, prompt: str, suffix: str) -> int:
        """Position of the last token of what stands before `suffix`, among those that are kept."""
        return last_subject_token(self.kept(prompt), self.part(suffix), self.ends)

    def subject_start(self, prompt: str, suffix: str) -> int:
        """The same, of the first vector where that token is the last one of a textual inversion."""
        at = self.subject_at(prompt, suffix)
        return at if self.inversions is None else self.inversions.start(self.kept(prompt), at)

    @cached_property
    def ends(self) -> int:
        """How many tokens come after a prompt: the end token, and what is written behind."""
        bare = self._ids("a", False)
        special = self._ids("a", True)[-len(bare) :] != bare
        return int(special) + len(self._ids(self.after, False))

    @property
    def limit(self) -> int:
        """The most tokens that are read. A tokenizer that states no limit, or none that can be meant, has none."""
        stated = int(self.tokenizer.model_max_length)
        return min(limit for limit in (stated, self.positions, NO_LIMIT) if limit and limit > 0)

    def mark(self, prompts: Sequence[str]) -> str:
        """All that the tokens are decided by, for the disk cache."""
        return repr([self.tokenizer.pad_token_id, self.limit, self.dropped, [self.ids(prompt) for prompt in prompts]])

    def _as_given(self, text: str) -> str:
        """A prompt, or a piece of one, as the pipeline gives it to the tokenizer."""
        cleaned = self.clean(text)
        return cleaned if self.inversions is None else self.inversions.expand(cleaned)

    def _ids(self, text: str, special: bool) -> list[int]:
        """Thousands of words are asked for several times each."""
        key = (text, special)
        if key not in self._known:
            self._known[key] = self.tokenizer(text, truncation=False, add_special_tokens=special).input_ids
        return self._known[key]
