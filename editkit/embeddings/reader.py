"""Prompts to token ids, as a pipeline writes a prompt and as its tokenizer splits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


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
    """

    tokenizer: Any
    clean: Callable[[str], str] = as_it_is
    before: str = ""
    after: str = ""
    dropped: range = range(0)
    multiple: int = 1
    _known: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False, init=False)

    def ids(self, prompt: str) -> list[int]:
        """Token ids with start and end token, as far as the tokenizer has them, and all that is written around.

        An empty prompt is read as one space, as the reference code of UCE and RECE does.
        """
        found = self._ids(f"{self.before}{self.clean(prompt or ' ')}{self.after}", True)
        return [self.tokenizer.pad_token_id] * (-len(found) % self.multiple) + found

    def kept(self, prompt: str) -> list[int]:
        """Token ids that the denoiser gets the rows of."""
        return [one for at, one in enumerate(self.ids(prompt)) if at not in self.dropped]

    def part(self, text: str) -> list[int]:
        """Token ids of a piece of a prompt."""
        return self._ids(self.clean(text), False)

    def size(self, words: str) -> int:
        """How many tokens `words` are in a prompt: many tokenizers split what follows a space otherwise."""
        return len(self._ids(self.clean(f"a {words}"), True)) - len(self._ids("a", True))

    @cached_property
    def ends(self) -> int:
        """How many tokens come after a prompt: the end token, and what is written behind."""
        bare = self._ids("a", False)
        special = self._ids("a", True)[-len(bare) :] != bare
        return int(special) + len(self._ids(self.after, False))

    @property
    def limit(self) -> int:
        return int(self.tokenizer.model_max_length)

    def mark(self, prompts: Sequence[str]) -> str:
        """All that the tokens are decided by, for the disk cache."""
        return repr([self.tokenizer.pad_token_id, self.limit, self.dropped, [self.ids(prompt) for prompt in prompts]])

    def _ids(self, text: str, special: bool) -> list[int]:
        """Thousands of words are asked for several times each."""
        key = (text, special)
        if key not in self._known:
            self._known[key] = self.tokenizer(text, truncation=False, add_special_tokens=special).input_ids
        return self._known[key]
