"""A prompt of which some tokens are learned: their embeddings stand at the input of the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.embeddings.clip_dense import DenseClip
from editkit.errors import EditkitError
from editkit.redteam.cost import Cost
from editkit.redteam.letters import TokenLetters

Piece = str | None
"""Text of a prompt, or the place of a learned token."""


@dataclass(frozen=True)
class SoftPrompt:
    """Text and learned tokens in the order of `pieces`.

    Attributes:
        ids: `(length,)` with start, end and padding; 0 at the places.
        places: `(slots,)` positions of the learned tokens.
        dense: the text model, on the device of the denoiser.
        table: embedding of every letter, `(letters, width)` float32.
    """

    letters: TokenLetters
    pieces: tuple[Piece, ...]
    ids: Tensor
    places: Tensor
    dense: DenseClip
    table: Tensor

    @classmethod
    def of(cls, letters: TokenLetters, pieces: Sequence[Piece], device: torch.device) -> SoftPrompt:
        """With the tokens of `pieces`, padded to the encoder's length.

        Raises:
            EditkitError: the prompt and the learned tokens are more than the encoder reads.
        """
        reader = letters.encoder.reader
        tokens = [token for piece in pieces for token in ([None] if piece is None else reader.part(piece))]
        if len(tokens) + 2 > letters.length:
            learned = sum(token is None for token in tokens)
            raise EditkitError(
                f"prompt {' '.join(filter(None, pieces))[:40]!r}: {len(tokens) + 2 - learned} tokens and {learned} "
                f"learned ones, but this text encoder reads {letters.length}; shorten it, or learn fewer"
            )
        whole = [letters.start, *(token or 0 for token in tokens), letters.end]
        ids = torch.tensor(whole + [letters.pad] * (letters.length - len(whole)))
        places = torch.tensor([at + 1 for at, token in enumerate(tokens) if token is None], dtype=torch.long)
        dense = letters.dense.to(device)
        table = dense.table[letters.tokens.to(device)]
        return cls(letters, tuple(pieces), ids.to(device), places.to(device), dense, table)

    @property
    def slots(self) -> int:
        """How many tokens are learned."""
        return len(self.places)

    def rows(self, learned: Tensor, cost: Cost) -> Tensor:
        """Embeddings `(prompts, slots, width)` → the text encoder's rows `(prompts, length, width)`, differentiable."""
        cost.encodings += len(learned)
        embedded = self.dense.table[self.ids].expand(len(learned), -1, -1)
        if self.slots:
            embedded = embedded.index_copy(1, self.places, learned.to(embedded))
        return self.dense.rows_of(embedded)

    def text(self, chosen: Sequence[int]) -> str:
        """The prompt as it is typed, with these letters at the places."""
        words = iter(chosen)
        return " ".join(self.letters.text([next(words)]) if piece is None else piece for piece in self.pieces)

    def is_stable(self, chosen: Sequence[int]) -> bool:
        """Whether the typed text is read as these very tokens."""
        ids = self.ids.clone()
        ids[self.places] = self.letters.tokens[list(chosen)].to(ids)
        typed = self.letters.encoder.reader.ids(self.text(chosen))
        return ids[: len(typed)].tolist() == typed
