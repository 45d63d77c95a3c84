"""Which words are near each other, as a model's keys and values see them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.edits.gram import cosine
from editkit.embeddings.encoder import TextEncoder

NEIGHBOURS = 10
AT_ONCE = 2048
"""Words that are compared with all others at a time: of a tokenizer's all at once would take gigabytes."""
CANDIDATE = 0.3
"""Cosine below which the likeness of a word is not looked at."""


def subject_rows(encoder: TextEncoder, words: Sequence[str]) -> Tensor:
    """The last subject token of "a X", `(words, d)`."""
    embedded = encoder.encode_words([fill("a {}", word) for word in words])
    return torch.stack(
        [rows[encoder.subject_at("a {}", word)] for rows, word in zip(embedded, words, strict=True)]
    ).double()


def closeness(encoder: TextEncoder, words: Sequence[str], concepts: Sequence[str], gram: Tensor) -> Tensor:
    """Cosine `(words, concepts)` of the words' subject rows, less the mean of `words`, as keys and values."""
    rows = subject_rows(encoder, words)
    mean = rows.mean(0)
    return cosine(rows - mean, subject_rows(encoder, concepts) - mean, gram)


def likeness(encoder: TextEncoder, words: Sequence[str], concepts: Sequence[str], gram: Tensor) -> Tensor:
    """How far each word is on the way from its neighbours to a concept, `(words, concepts)`: 1 is the concept itself,
    0 no nearer than neighbours are to each other.

    `(s − r) / (1 − r)` with `s` their cosine as in `closeness`, and `r` the mean of both's cosines to their own
    `NEIGHBOURS` nearest words (the local scaling of Conneau et al. 2018, "Word translation without parallel data",
    eq. 4). How near a synonym is differs from encoder to encoder, and a word that an encoder hardly knows is near many.
    """
    rows = subject_rows(encoder, words)
    mean = rows.mean(0)
    theirs = subject_rows(encoder, concepts) - mean
    rows = rows - mean
    near = cosine(rows, theirs, gram)
    close = (near.max(dim=1).values > CANDIDATE).nonzero()[:, 0]
    own = [_neighbourhood(cosine(rows[some], rows, gram)) for some in close.split(AT_ONCE)]
    around = (torch.cat([near.new_zeros(0), *own])[:, None] + _neighbourhood(near.T)) / 2
    shares = torch.full_like(near, -1.0)
    shares[close] = (near[close] - around) / (1 - around)
    return shares


def _neighbourhood(cosines: Tensor) -> Tensor:
    """Mean of the largest in every row; a word itself, and what has its very embedding, is not its neighbour."""
    others = torch.where(cosines < 1 - 1e-6, cosines, -1.0)
    return others.topk(min(NEIGHBOURS, others.shape[1]), dim=1).values.mean(1)


def nearest_words(encoder: TextEncoder, concepts: Sequence[str], words: Sequence[str], gram: Tensor) -> list[str]:
    """Of each concept the word closest to it: the guide `nearest`."""
    nearest = closeness(encoder, words, concepts, gram).argmax(dim=0)
    return [words[int(n)] for n in nearest]
