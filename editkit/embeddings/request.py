"""From words to the rows that an edit is solved over: concepts, guides, preserved prompts, protected vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.edit.compute import Rows
from editkit.edit.gram import cosine
from editkit.edit.protect import Protected
from editkit.edit.time import align
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.rows import Tokens, paired_rows

AVERAGE_OVER = 256
SPARE_POSITIONS = 8
SHORT_ENCODER = 32


def concept_rows(
    encoder: TextEncoder, concept: str, guide: str | Sequence[str], templates: Sequence[str], tokens: Tokens
) -> Rows:
    """Rows of `concept` and of its guide in every template.

    `guide` is one text, or several whose mean is meant (the guide `average`).
    """
    guides = [guide] if isinstance(guide, str) else list(guide)
    sources, targets = [], []
    for template in templates:
        embedded = encoder.encode([fill(template, concept)])[0]
        at = encoder.subject_at(template, concept)
        pairs = []
        for one, rows in zip(guides, encoder.encode([fill(template, one) for one in guides]), strict=True):
            mine, theirs = paired_rows(tokens, at, encoder.subject_at(template, one), encoder.length)
            pairs.append((list(mine), rows[list(theirs)]))
        reach = min(len(mine) for mine, _ in pairs)
        sources.append(embedded[pairs[0][0][:reach]])
        targets.append(torch.stack([rows[:reach] for _, rows in pairs]).mean(0))
    return Rows(torch.cat(sources), torch.cat(targets))


def preserved_rows(encoder: TextEncoder, prompts: Sequence[str], tokens: Tokens) -> Tensor | None:
    """Rows of the prompts to preserve, `(m, d)`, or None when there are none."""
    if not prompts:
        return None
    rows = []
    for prompt, embedded in zip(prompts, encoder.encode(prompts), strict=True):
        at = encoder.subject_at("{}", prompt)
        rows.append(embedded[list(paired_rows(tokens, at, at, encoder.length)[0])])
    return torch.cat(rows)


def vocabulary_rows(encoder: TextEncoder, words: Sequence[str], templates: Sequence[str]) -> Protected:
    """Rows of every word in every template, from its first token to a few positions after the end of the prompt.

    What stands before the word is the same for all words. Padding after the end changes little: a long encoder's is
    represented by one position.
    """
    if not words:
        return Protected((), ())
    prompts = [fill(template, word) for word in words for template in templates]
    ends = [len(encoder.tokens(prompt)) for prompt in prompts]
    spare = SPARE_POSITIONS if encoder.length <= SHORT_ENCODER else 1
    embedded = encoder.encode(prompts, max(ends) + spare)
    rows, at = [], 0
    for word in words:
        parts = []
        for template in templates:
            last = encoder.subject_at(template, word)
            first = last - encoder.subject_size(word) + 1
            parts.append(embedded[at, max(first, 0) : ends[at] + spare])
            at += 1
        rows.append(torch.cat(parts))
    return Protected(tuple(words), tuple(rows))


def average_of(words: Sequence[str]) -> list[str]:
    """The words whose mean is the guide `average`: all of them, or `AVERAGE_OVER` spread evenly."""
    step = max(1, len(words) / AVERAGE_OVER)
    return [words[int(i * step)] for i in range(min(len(words), AVERAGE_OVER))]


def subject_rows(encoder: TextEncoder, words: Sequence[str]) -> Tensor:
    """The last subject token of "a X", `(words, d)`."""
    ends = [encoder.subject_at("a {}", word) for word in words]
    embedded = encoder.encode([fill("a {}", word) for word in words], max(ends, default=0) + 2)
    return embedded[range(len(words)), ends]


def closeness(encoder: TextEncoder, words: Sequence[str], concepts: Sequence[str], gram: Tensor) -> Tensor:
    """Cosine `(words, concepts)` of the words' subject rows, less the mean of `words`, as keys and values."""
    rows = subject_rows(encoder, [*words, *concepts])
    rows = rows - rows[: len(words)].mean(0)
    return cosine(rows[: len(words)], rows[len(words) :], gram)


def nearest_word(encoder: TextEncoder, concept: str, words: Sequence[str], gram: Tensor) -> str:
    """The word closest to `concept`: the guide `nearest`."""
    return words[int(closeness(encoder, words, [concept], gram)[:, 0].argmax())]


def aligned_rows(encoder: TextEncoder, source: str, destination: str) -> Rows:
    """All rows of `source` and the rows of `destination` they must become (TIME's alignment)."""
    at = align(encoder.tokens(source), encoder.tokens(destination), encoder.length)
    embedded = encoder.encode([source, destination])
    return Rows(embedded[0], embedded[1][at])
