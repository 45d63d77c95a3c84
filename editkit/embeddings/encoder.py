"""Prompts to embedding rows: one tokenizer's part of what a denoiser reads, each prompt encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from editkit.concepts.templates import fill
from editkit.embeddings.cache import cached
from editkit.embeddings.clip_text import ClipText
from editkit.embeddings.reader import Reader
from editkit.embeddings.rows import Place
from editkit.embeddings.states import States, finite
from editkit.errors import EditkitError
from editkit.hardware import has_bfloat16

SHORT = 32
BIG, MANY = 768, 50
"""Width and number of prompts from which bfloat16 is used: a word list enters an edit as means over hundreds of rows,
where three digits do, and in float32 it would take longer than all the rest."""


@dataclass
class TextEncoder:
    """A tokenizer and the rows that its tokens become.

    Attributes:
        states: prompts and how many rows of each → `(Σ rows, width)`; see `editkit.embeddings.states`.
        length: positions of a padded prompt, or the most tokens that are read.
        mark: names the weights that the rows come from, or reads them to say so: see `fingerprint`. Rows of an encoder
            without a name are not kept on disk.
        whole: every prompt is run at its full length, because its rows depend on its padding: a short one costs as much
            as a long one.
        padding: how many rows after the end of a prompt the denoiser reads at most. Behind a mask that is none.
        pooled: one row stands for the whole prompt.
        beside: the tokenizers of encoders whose widths follow in the same rows. They differ from the first where only
            one of them knows a textual inversion.
        forget: makes what `states` remember of prompts go, where they do.
        free: lets the weights go that lie in memory; they are read again when more prompts are asked for.
        move: says on which device they are to lie.
        clip: the model, where it is one CLIP whose last states are the rows: what a search with gradients runs.
        device: where rows go.
    """

    reader: Reader
    states: States
    width: int
    length: int
    mark: str | Callable[[], str]
    whole: bool = False
    padding: int | None = None
    pooled: bool = False
    beside: tuple[Reader, ...] = ()
    clip: ClipText | None = field(default=None, repr=False)
    forget: Callable[[], None] = lambda: None
    free: Callable[[], None] = lambda: None
    move: Callable[[str], None] = lambda device: None
    device: str = "cpu"
    _known: dict[tuple[str, int, bool], Tensor] = field(default_factory=dict, repr=False, init=False)

    @cached_property
    def fingerprint(self) -> str:
        """The name of the weights, which the disk cache goes by; all of them are read for it."""
        return self.mark if isinstance(self.mark, str) else self.mark()

    @property
    def spare(self) -> int:
        """Padding rows after the end of a prompt that stand for all the others: they change little in a long one."""
        return self._read(8 if self.length <= SHORT else 1)

    @property
    def masked(self) -> bool:
        """Whether rows end with the prompt, or soon after."""
        return self.padding is not None

    @property
    def slow(self) -> bool:
        """Whether a prompt costs far more than its own tokens."""
        return self.whole or bool(self.reader.before)

    def tokens(self, prompt: str) -> list[int]:
        """Token ids with start and end token, as far as the tokenizer has them, without padding at the end.

        Raises:
            EditkitError: the prompt is longer than the encoder reads.
        """
        self._check(prompt)
        return self.reader.kept(prompt)

    def rows_in(self, prompt: str) -> int:
        """How many rows come before padding."""
        return 1 if self.pooled else self._check(prompt)

    def subject_at(self, template: str, words: str) -> int:
        """Row of the last token of `words` in `fill(template, words)`."""
        if self.pooled:
            return 0
        prompt = fill(template, words)
        self._check(prompt)
        return self.reader.subject_at(prompt, template.split("{}", 1)[1])

    def place(self, template: str, words: str) -> Place:
        """Where `words` are in `fill(template, words)`. The end is the last row where a tokenizer writes none."""
        last = self.subject_at(template, words)
        end = self.rows_in(fill(template, words)) - (1 if self.pooled else max(1, self.reader.ends))
        return Place(max(0, last - self.subject_size(words) + 1), last, end)

    def subject_start(self, template: str, words: str) -> int:
        """Row of the first vector where `words` end with a textual inversion of several, else `subject_at`.

        Each of its vectors is the subject itself, unlike the first tokens of a word that was split.
        """
        if self.pooled:
            return 0
        prompt, suffix = fill(template, words), template.split("{}", 1)[1]
        starts = [(reader.subject_start(prompt, suffix), reader.subject_at(prompt, suffix)) for reader in self._readers]
        return min([self.subject_at(template, words), *(start for start, at in starts if start < at)])

    def _check(self, prompt: str) -> int:
        """How many tokens the prompt is, where that is not too many."""
        count = self._count(prompt)
        limit = self.reader.limit if self.pooled else self.length
        if count > limit:
            raise EditkitError(
                f"prompt {prompt[:40]!r}: {count} tokens, but this text encoder reads {limit}; shorten it"
            )
        return count

    def _count(self, prompt: str) -> int:
        """How many tokens the prompt is, by the tokenizer that makes most of it."""
        return max(len(reader.kept(prompt)) for reader in self._readers)

    @property
    def _readers(self) -> tuple[Reader, ...]:
        return (self.reader, *self.beside)

    def subject_size(self, words: str) -> int:
        """How many rows `words` are, at least one."""
        if self.pooled:
            return 1
        return max(1, self.reader.size(words))

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """All rows that the denoiser reads of every prompt, `(length, width)` or behind a mask fewer; float64.

        Computed in float32; a list of `MANY` prompts or more by a large encoder in bfloat16 where that is fast.
        """
        return [rows.double() for rows in self.encode_each(prompts, self.length)]

    def encode_each(
        self, prompts: Sequence[str], spare: int, keep: bool = False, averaged: bool = False
    ) -> list[Tensor]:
        """Rows of every prompt up to `spare` after its end, as far as the encoder goes: `(rows_in + spare, width)`
        float32 each. Precision as for `encode`, and as for a long list where they are to be `averaged`. With `keep`, a
        long list is kept on disk."""
        coarse = (averaged or len(prompts) >= MANY) and self.is_fast_coarse
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, spare, coarse) not in self._known]
        if missing:
            sizes = self._sizes(missing, spare)
            mark = self._mark(missing, coarse) if keep and self.mark else None
            rows = cached(mark, missing, spare, lambda: finite(self.states(missing, sizes, coarse))).to(self.device)
            pairs = zip(missing, rows.split(sizes), strict=True)
            self._known.update(((prompt, spare, coarse), row) for prompt, row in pairs)
        return [self._known[prompt, spare, coarse] for prompt in prompts]

    def encode_once(self, prompts: Sequence[str], spare: int, coarse: bool = False) -> list[Tensor]:
        """Rows as `encode_each` gives them, none of which is remembered: of texts that come by once."""
        sizes = self._sizes(prompts, spare)
        rows = finite(self.states(prompts, sizes, coarse and self.is_fast_coarse))
        return list(rows.to(self.device).split(sizes))

    @property
    def is_fast_coarse(self) -> bool:
        """Whether bfloat16 saves time: it is a large encoder, and the machine is fast at it."""
        return self.width >= BIG and has_bfloat16()

    def fits(self, prompt: str) -> bool:
        """Whether all tokens of the prompt are read."""
        return self.pooled or self._count(prompt) <= self.length

    def _sizes(self, prompts: Sequence[str], spare: int) -> list[int]:
        return [min(self.length, self.rows_in(prompt) + self._read(spare)) for prompt in prompts]

    def encode_words(self, prompts: Sequence[str]) -> list[Tensor]:
        """`encode_each` for a long list: no time goes into padding, where rows do not depend on it."""
        return self.encode_each(prompts, self.spare, keep=True)

    def _read(self, padding: int) -> int:
        return padding if self.padding is None else min(padding, self.padding)

    def _mark(self, prompts: Sequence[str], coarse: bool) -> str:
        """What rows on the disk go by: weights, precision, and the tokens that were read."""
        precision = "bfloat16" if coarse else "float32"
        tokens = "".join(reader.mark(prompts) for reader in self._readers)
        return f"{self.fingerprint}-{precision}-{hashlib.sha256(tokens.encode()).hexdigest()}"
