"""Embeddings of new tokens that were learned from pictures (textual inversion, Gal et al. 2022)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from editkit.embeddings.clip_text import ClipText
from editkit.embeddings.clip_tokens import ClipTokens

Vectors = tuple[Tensor, ...]
"""Learned vectors, `(vectors, width)` of each text encoder."""
TABLE = "embeddings.token_embedding.weight"


@dataclass(frozen=True)
class Learned:
    """What pictures taught: one way to ask for what they show from every restart.

    Attributes:
        token: what a prompt says for it, such as `<church>`.
        word: the class word that it started from: what the pictures show.
        restarts: the best on held-out noise first.
        kept: of what masks leave of the pictures, one for each restart; none without masks.
        record: how it was learned.
    """

    token: str
    word: str
    restarts: tuple[Vectors, ...]
    kept: tuple[Vectors, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Vectors:
        return self.restarts[0]

    @property
    def sha256(self) -> str:
        """Of all vectors, as float32."""
        sha = hashlib.sha256()
        for vectors in (*self.restarts, *self.kept):
            for rows in vectors:
                sha.update(rows.float().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()

    @property
    def vectors(self) -> int:
        """How many a prompt is given for the token."""
        return len(self.best[0])


def names_of(token: str, vectors: int) -> list[str]:
    """The tokens of all its vectors, as diffusers names them.

    >>> names_of("<church>", 3)
    ['<church>', '<church>_1', '<church>_2']
    """
    return [token, *(f"{token}_{n}" for n in range(1, vectors))]


def with_learned(tokenizer: Any, model: ClipText, vectors: Mapping[str, Tensor]) -> tuple[Any, ClipText]:
    """A tokenizer and its text model that know more tokens; the given ones stay as they are.

    Args:
        vectors: token → `(vectors, width)`.
    """
    tokenizer = with_tokens(tokenizer, [name for token, rows in vectors.items() for name in names_of(token, len(rows))])
    ids = tokenizer.added_tokens_encoder
    named = [pair for token, rows in vectors.items() for pair in zip(names_of(token, len(rows)), rows, strict=True)]
    numbered = {ids[name]: row for name, row in named}
    table = model.tensors[TABLE]
    table = pad(table, (0, 0, 0, max(0, max(numbered) + 1 - len(table)))).clone()
    for number, row in numbered.items():
        table[number] = row.to(table)
    return tokenizer, replace(model, tensors={**model.tensors, TABLE: table})


def teach(pipe: Any, tokens: Mapping[str, Vectors]) -> None:
    """Let a pipeline of diffusers read new tokens as its text encoders' own; it is changed.

    Args:
        tokens: token → vectors of each of its text encoders.
    """
    parts = [(getattr(pipe, f"tokenizer{end}", None), getattr(pipe, f"text_encoder{end}", None)) for end in ("", "_2")]
    known = [part for part in parts if None not in part]
    for token, vectors in tokens.items():
        for (tokenizer, encoder), rows in zip(known, vectors, strict=True):
            pipe.load_textual_inversion({token: rows}, token=token, tokenizer=tokenizer, text_encoder=encoder)


def with_tokens(tokenizer: Any, tokens: Sequence[str]) -> Any:
    """A copy of a tokenizer that knows these tokens too."""
    from tokenizers import AddedToken, Tokenizer

    if not isinstance(tokenizer, ClipTokens):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens(list(tokens))
        return tokenizer
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    return replace(tokenizer, backend=backend)
