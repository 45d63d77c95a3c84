"""The words among which the most damaged concept is looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from editkit.concepts.vocabulary import read_word_file
from editkit.edits.gram import cosine
from editkit.erasure.rows import subject_rows
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel

TOKENS = "tokens"
"""`--vocabulary tokens` is the tokenizer's own vocabulary."""

POOL = 10
ROUNDS = 10


def candidates(
    model: EditableModel,
    concepts: Sequence[str],
    guides: Sequence[str],
    vocabulary: Sequence[str] | None,
    k: int,
    spread: bool = False,
) -> list[list[str]]:
    """The k nearest words of every concept by cosine, nearest first; never an erased concept, its synonym or a guide.

    Args:
        vocabulary: default: the words of the model's profile.
        spread: of the `10 k` nearest, the word nearest to the centre of each of k clusters, as the authors' code does.

    Raises:
        EditkitError: no word is left.
    """
    words = words_to_protect(model, concepts, guides, vocabulary)
    if not words:
        raise EditkitError("--vocabulary: no word is left that is neither erased nor a guide; give more words")
    rows = subject_rows(model.encoder, words)
    mean = rows.mean(0)
    near = cosine(rows - mean, subject_rows(model.encoder, concepts) - mean, model.gram)
    chosen_words = []
    for column in near.T:
        pool = column.topk(min(len(words), POOL * k if spread else k)).indices
        chosen = pool[cluster_centres(rows[pool], k)] if spread else pool
        chosen_words.append([words[i] for i in chosen.tolist()])
    least = min(len(own) for own in chosen_words)
    return [own[:least] for own in chosen_words]


def read_vocabulary(model: EditableModel, given: str | None) -> list[str] | None:
    """The words of a file, those of the tokenizer for `tokens`, or None for the default."""
    if given is None:
        return None
    return token_words(model.encoder.reader.tokenizer) if given == TOKENS else read_word_file(Path(given))


def token_words(tokenizer: object) -> list[str]:
    """The entries of a CLIP tokenizer that are whole words of three letters and more."""
    known: dict[str, int] = tokenizer.get_vocab()  # pyright: ignore[reportAttributeAccessIssue]
    return sorted(name.removesuffix("</w>") for name in known if re.fullmatch(r"[a-z]{3,}</w>", name))


def cluster_centres(rows: Tensor, k: int) -> Tensor:
    """Lloyd's k-means from every n-th row: for each cluster the row nearest to its centre, `(≤ k,)`, in order."""
    if len(rows) <= k:
        return torch.arange(len(rows))
    centres = rows[torch.linspace(0, len(rows) - 1, k).long()]
    for _ in range(ROUNDS):
        own = torch.cdist(rows, centres).argmin(1)
        centres = torch.stack([rows[own == i].mean(0) if (own == i).any() else centres[i] for i in range(k)])
    return torch.cdist(centres, rows).argmin(1).unique()
