"""A loaded pipeline whose text encoders read new tokens: at their places stand embeddings that are being learned."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Condition
from editkit.embeddings.learned import Vectors, names_of, with_tokens
from editkit.errors import EditkitError

PLACEHOLDER = "<editkit-learned>"
ENDS = ("", "_2")


@dataclass(frozen=True)
class SoftTokens:
    """The stock pipeline's way from a prompt to what the network reads, differentiable in learned embeddings.

    Attributes:
        denoiser: a kind of Stable Diffusion, with tokenizers of its own; networks and encoders are shared with the one
            that it was made of.
        encoders: its text encoders.
        first: of each, the id of the first new token.
    """

    denoiser: Any
    encoders: tuple[Any, ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, denoiser: Any, vectors: int) -> SoftTokens:
        """With places for so many vectors."""
        pipe = copy.copy(denoiser.pipe)
        names, encoders, first = names_of(PLACEHOLDER, vectors), [], []
        for end in ENDS:
            encoder, tokenizer = (getattr(pipe, f"{part}{end}", None) for part in ("text_encoder", "tokenizer"))
            if encoder is None or tokenizer is None:
                continue
            tokenizer = with_tokens(tokenizer, names)
            setattr(pipe, f"tokenizer{end}", tokenizer)
            encoders.append(encoder)
            first.append(tokenizer.convert_tokens_to_ids(names[0]))
        made = type(denoiser)(pipe)
        made.half = denoiser.half
        return cls(made, tuple(encoders), tuple(first))

    def embedding_of(self, word: str) -> Vectors:
        """The embedding of a word of one token in every encoder, `(1, width)` float32 each.

        Raises:
            EditkitError: it is several tokens.
        """
        rows = []
        for end, encoder in zip(ENDS, self.encoders, strict=False):
            tokenizer = getattr(self.denoiser.pipe, f"tokenizer{end}")
            (number,) = one_token(tokenizer, word)
            rows.append(encoder.get_input_embeddings().weight[number][None].detach().float())
        return tuple(rows)

    def read(self, template: str, learned: Vectors) -> Condition:
        """What the network reads of `template` about the learned token, one row, differentiable in the vectors."""
        with self._standing(learned):
            return self.denoiser.encode_with_gradients([fill(template, PLACEHOLDER)])[0]

    @contextmanager
    def _standing(self, learned: Vectors) -> Iterator[None]:
        hooks = []
        for encoder, first, rows in zip(self.encoders, self.first, learned, strict=True):
            hooks += _hooked(encoder.get_input_embeddings(), first, rows)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def one_token(tokenizer: Any, word: str) -> list[int]:
    """The id of a word that is one token.

    Raises:
        EditkitError: naming the tokens that it is.
    """
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        parts = " + ".join(token.removesuffix("</w>") for token in tokenizer.tokenize(word))
        raise EditkitError(
            f"--word {word!r}: expected a word of one token, got {len(ids)} ({parts or 'nothing'}); "
            "give a coarser word for the same thing"
        )
    return ids


def _hooked(table: Any, first: int, rows: Tensor) -> Sequence[Any]:
    """Let a table of embeddings give `rows` for the ids from `first` on, which it does not have."""
    asked: list[Tensor] = []

    def before(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        asked.append(given[0])
        return (given[0].masked_fill(given[0] >= first, 0), *given[1:])

    def after(module: Any, given: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        ids = asked.pop()
        at = (ids - first).clamp(0, len(rows) - 1)
        return torch.where((ids >= first)[..., None], rows.to(embedded)[at], embedded)

    return [table.register_forward_pre_hook(before), table.register_forward_hook(after)]
