"""What a search writes prompts with, and the rows that they become: tokens of one CLIP, or words for any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from editkit.embeddings.clip_dense import DenseClip
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.rows import continued
from editkit.errors import EditkitError
from editkit.hardware import has_fast_bfloat16
from editkit.model.editable import EditableModel
from editkit.redteam.cost import Cost
from editkit.redteam.target import Target

END_OF_WORD = "</w>"
MOST_KEPT = 200_000
"""Prompts whose rows are kept: a search meets many of them again."""


class Letters(Protocol):
    """An alphabet. A prompt is a sequence of numbers of its letters, -1 where it is shorter than others beside it."""

    @property
    def count(self) -> int:
        """How many letters there are."""
        ...

    def text(self, prompt: Sequence[int]) -> str:
        """The prompt as it is typed."""
        ...

    def ids(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Its tokens, without start and end."""
        ...

    def is_stable(self, prompt: Sequence[int]) -> bool:
        """Whether the typed text is read as these very letters."""
        ...

    def rows(self, prompts: Tensor, cost: Cost) -> Tensor:
        """`(batch, letters)` → rows `(batch, length, width)` float32, all positions that the denoiser reads."""
        ...


def letters_of(
    model: EditableModel, target: Target | None, words: bool = False, positions: int | None = None, behind: str = ""
) -> Words | TokenLetters:
    """Tokens where the model's rows are those of one CLIP, else words.

    Args:
        target: its names and listed synonyms are no letters; None: all are.
        words: words in any case.
        positions: how many rows of a prompt are computed at most; None: all that the denoiser reads.
        behind: what stands behind every prompt.
    """
    encoder = model.encoder
    if encoder.clip is not None and not words:
        return TokenLetters.of(encoder, target, positions, behind)
    return Words.of(model, target, positions, behind)


@dataclass
class TokenLetters:
    """Tokens that stand for whole words, each of which is read back as itself; printable ASCII.

    Attributes:
        tokens: id of every letter, `(count,)`.
        start, end, pad: ids of the special tokens.
        dense: the text model, where the encoder's rows go; prompts and tokens lie on the processor.
        length: positions of a padded prompt.
        behind: what stands behind every prompt.
        suffix: its tokens.
    """

    encoder: TextEncoder
    tokens: Tensor
    start: int
    end: int
    pad: int
    dense: DenseClip
    length: int
    _names: dict[int, str] = field(repr=False)
    behind: str = ""
    suffix: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, encoder: TextEncoder, target: Target | None, positions: int | None = None, behind: str = ""
    ) -> TokenLetters:
        reader, clip = encoder.reader, encoder.clip
        if clip is None:
            raise EditkitError("a search over tokens needs a model whose rows are those of one CLIP; use --words")
        start, *_, end = reader.ids("a")
        names: dict[int, str] = {}
        for token, number in reader.tokenizer.get_vocab().items():
            word = token.removesuffix(END_OF_WORD)
            if not token.endswith(END_OF_WORD) or not (word.isascii() and word.isprintable() and word.isalnum()):
                continue
            if number < clip.vocabulary and not (target and target.bans(word)) and reader.part(word) == [number]:
                names[number] = word
        on_processor = torch.device(encoder.device).type == "cpu"
        kind = torch.bfloat16 if on_processor and has_fast_bfloat16() else torch.float32
        tokens = torch.tensor(sorted(names))
        dense = DenseClip.of(clip, None, kind).to(encoder.device)
        length = min(encoder.length, positions or encoder.length)
        suffix = tuple(reader.part(behind)) if behind else ()
        pad = reader.tokenizer.pad_token_id
        return cls(encoder, tokens, start, end, pad, dense, length, names, behind, suffix)

    @property
    def count(self) -> int:
        return len(self.tokens)

    @cached_property
    def _known(self) -> dict[tuple[int, ...], Tensor]:
        return {}

    def text(self, prompt: Sequence[int]) -> str:
        words = [self._names[number] for number in self._own(prompt)]
        return " ".join([*words, self.behind] if self.behind else words)

    def ids(self, prompt: Sequence[int]) -> tuple[int, ...]:
        return (*self._own(prompt), *self.suffix)

    def _own(self, prompt: Sequence[int]) -> list[int]:
        return [int(self.tokens[letter]) for letter in prompt if letter >= 0]

    def is_stable(self, prompt: Sequence[int]) -> bool:
        return self.encoder.reader.part(self.text(prompt)) == list(self.ids(prompt))

    def padded(self, prompts: Tensor) -> Tensor:
        """`(batch, letters)` → ids with start, end and padding, `(batch, length)`."""
        batch, size = prompts.shape
        ids = torch.full((batch, self.length), self.pad)
        ids[:, 0] = self.start
        given = torch.where(prompts >= 0, self.tokens[prompts.clamp(min=0)], self.pad)
        ids[:, 1 : size + 1] = given
        ends, every = (prompts >= 0).sum(1) + 1, torch.arange(batch)
        for n, token in enumerate((*self.suffix, self.end)):
            ids[every, ends + n] = token
        return ids

    def rows(self, prompts: Tensor, cost: Cost) -> Tensor:
        keys = [tuple(prompt) for prompt in prompts.tolist()]
        missing = list({key: n for n, key in enumerate(keys) if key not in self._known}.values())
        if missing:
            cost.encodings += len(missing)
            if len(self._known) > MOST_KEPT // self.length:
                kept = {key: self._known[key] for key in keys if key in self._known}
                self._known.clear()
                self._known.update(kept)
            made = self.dense.rows(self.padded(prompts[missing])).to(self.dense.kind)
            self._known.update((keys[n], rows) for n, rows in zip(missing, made, strict=True))
        return torch.stack([self._known[key] for key in keys]).float()


@dataclass
class Words:
    """The words of the model's vocabulary: for encoders of any kind, without gradients."""

    encoder: TextEncoder
    words: tuple[str, ...]
    length: int
    behind: str = ""

    @classmethod
    def of(cls, model: EditableModel, target: Target | None, positions: int | None = None, behind: str = "") -> Words:
        words = [word for word in model.own_words() if not (target and target.bans(word))]
        if not words:
            raise EditkitError(
                "a search over words needs a vocabulary, but the model's profile has none; give --profile"
            )
        length = min(model.encoder.length, positions or model.encoder.length)
        return cls(model.encoder, tuple(dict.fromkeys(words)), length, behind)

    @property
    def count(self) -> int:
        return len(self.words)

    def text(self, prompt: Sequence[int]) -> str:
        words = [self.words[letter] for letter in prompt if letter >= 0]
        return " ".join([*words, self.behind] if self.behind else words)

    def ids(self, prompt: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.encoder.reader.part(self.text(prompt)))

    def is_stable(self, prompt: Sequence[int]) -> bool:
        return True

    def rows(self, prompts: Tensor, cost: Cost) -> Tensor:
        texts = [self.text(prompt) for prompt in prompts.tolist()]
        cost.encodings += len(set(texts))
        return padded_rows(self.encoder, texts, self.length)


def padded_rows(encoder: TextEncoder, prompts: Sequence[str], length: int) -> Tensor:
    """Rows of prompts, at most `length` of each, `(batch, n, width)` float32; a short one goes on with its last."""
    rows = [row[:length] for row in encoder.encode_each(prompts, length)]
    longest = max(map(len, rows))
    return torch.stack([continued(row, longest) for row in rows]).float()
