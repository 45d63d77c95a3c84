"""The words among which the most damaged concept is looked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.edits.clusters import centres_of
from editkit.edits.gram import cosine
from editkit.erasure.near import subject_rows
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel

POOL = 10


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


def cluster_centres(rows: Tensor, k: int) -> Tensor:
    """For each of k clusters the row nearest to its centre, `(≤ k,)`, in order."""
    if len(rows) <= k:
        return torch.arange(len(rows))
    return torch.cdist(centres_of(rows, k), rows).argmin(1).unique()
