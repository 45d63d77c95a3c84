"""From words to the rows that an edit is solved over: concepts, guides, preserved prompts, protected vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.edits.problem import Rows
from editkit.edits.protect import ProtectedWords
from editkit.embeddings.encoder import SHORT, TextEncoder
from editkit.embeddings.rows import Tokens, continued, paired_rows

AVERAGE_OVER = 64
AVERAGE_OVER_LONG = 8
"""The same where every prompt takes more than `SHORT` positions. On the bundled model 8 words instead of 64 raise the
damage of the worst word by 5 % and leave as much of the concept; 64 words whose padding is guessed from its first eight
rows, which cost as much, raise it by 35 % and leave half as much again."""

INSTRUCTIONS = "(what is written before every prompt)"

SUBJECT: tuple[Tokens, ...] = ("last", "tail", "ends")
"""Rows that begin with the subject's last one."""

SAFE_WORDS = 3
"""Words that the guide `safe` is projected on, spread over the vocabulary. More leave more of a concept: on the bundled
model five leave enough to draw it in some pictures, and so do the two nearest. As many as an embedding has dimensions
leave all of it."""

Encoders = Sequence[TextEncoder]
"""The parts of one text stream: most have one, SD3's token stream has CLIP's rows and then T5's."""
Sentences = Sequence[str] | Callable[[str], Sequence[str]]
"""Templates of all words, or of each."""


class Span(tuple[str, ...]):
    """Texts whose span is a guide: a row becomes its projection on their rows, see `projected`."""


def projected(rows: Tensor, spanning: Tensor) -> Tensor:
    """`S (SᵀS)⁺ Sᵀ c` of every row `c`: the nearest that sums of other rows come to it (DP, CVPR 2026, its target).

    With a single `s` that is the nearest point of its ray, and not `s` itself.

    Args:
        rows: `(n, d)` float64.
        spanning: `(k, n, d)`: of each row the `k` that it is projected on the span of.

    >>> projected(torch.tensor([[3.0, 4.0]]), torch.tensor([[[2.0, 0.0]]])).tolist()
    [[3.0, 0.0]]
    """
    S = spanning.transpose(0, 1)
    return torch.einsum("nd,ndk,nke->ne", rows, torch.linalg.pinv(S, rtol=1e-6), S)


def concept_rows(
    encoders: Encoders, concept: str, guide: str | Sequence[str], templates: Sequence[str], tokens: Tokens
) -> Rows:
    """Rows of `concept` and of its guide in every template.

    Where `concept` ends with a textual inversion, the rows of all its vectors are to become the guide's subject.

    `guide` is one text, several whose mean is meant (the guide `average`), or a `Span` (the guide `safe`).
    """
    guides = (guide,) if isinstance(guide, str) else guide
    return _joined(_concept_rows(encoder, concept, guides, templates, tokens) for encoder in encoders)


def candidate_rows(
    encoders: Encoders, concept: str, guides: Sequence[str], templates: Sequence[str], tokens: Tokens
) -> tuple[Tensor, Tensor]:
    """Rows of `concept` in every template, `(n, d)`, and those that each of several guides has there, `(g, n, d)`."""
    pairs = [_paired(encoder, concept, guides, templates, tokens) for encoder in encoders]
    sources, targets = zip(*pairs, strict=True)
    return torch.cat(sources), torch.cat(targets, dim=1)


def _concept_rows(
    encoder: TextEncoder, concept: str, guides: Sequence[str], templates: Sequence[str], tokens: Tokens
) -> Rows:
    if isinstance(guides, Span):
        source, spanning = _paired(encoder, concept, guides, templates, tokens)
        return Rows(source, projected(source.double(), spanning.double()))
    if encoder.slow or (encoder.length > SHORT and not encoder.masked):
        guides = spread(guides, AVERAGE_OVER_LONG)
    source, targets = _paired(encoder, concept, guides, templates, tokens)
    return Rows(source, targets.double().mean(0))


def _paired(
    encoder: TextEncoder, concept: str, guides: Sequence[str], templates: Sequence[str], tokens: Tokens
) -> tuple[Tensor, Tensor]:
    embedded = encoder.encode([fill(template, concept) for template in templates])
    prompts = [[fill(template, guide) for guide in guides] for template in templates]
    asked = [prompt for some in prompts for prompt in some]
    spoken = iter(encoder.encode_each(asked, encoder.length, averaged=len(guides) > 1))
    sources, targets = [], []
    for template, rows in zip(templates, embedded, strict=True):
        at = encoder.place(template, concept)
        pairs = [paired_rows(tokens, at, encoder.place(template, guide), encoder.length) for guide in guides]
        # Guides differ in length, so do the rows behind them: the concept's are paired as far as all guides have some.
        reach = min(len(mine) for mine, _ in pairs)
        chosen = pairs[0][0][:reach]
        source = rows_at(rows, chosen)
        parts = [rows_at(next(spoken), theirs[:reach]) for _, theirs in pairs]
        known = min(len(part) for part in parts)
        together = torch.stack([continued(part[:known], max(known, len(source)))[: len(source)] for part in parts])
        # What stands between the concept's first vector and the paired rows goes where the first of them goes.
        start = chosen[0] if tokens in SUBJECT else 0
        before = rows[min(start, encoder.subject_start(template, concept)) : start]
        sources.append(torch.cat([before, source]))
        targets.append(torch.cat([together[:, :1].expand(-1, len(before), -1), together], dim=1))
    return torch.cat(sources), torch.cat(targets, dim=1)


def rows_at(rows: Tensor, positions: Sequence[int]) -> Tensor:
    """Those rows that there are: behind a mask a prompt ends."""
    return rows[[place for place in positions if place < len(rows)]]


def preserved_rows(encoders: Encoders, prompts: Sequence[str], tokens: Tokens) -> Tensor | None:
    """Rows of the prompts to preserve, `(m, d)`, or None when there are none; all from the subject on where an edit is
    made of what is around it."""
    if not prompts:
        return None
    tokens = "tail" if tokens == "around" else tokens
    rows = []
    for encoder in encoders:
        for prompt, embedded in zip(prompts, encoder.encode(prompts), strict=True):
            at = encoder.place("{}", prompt)
            mine, _ = paired_rows(tokens, at, at, encoder.length)
            start = mine[0] if tokens in SUBJECT else 0
            rows.append(embedded[min(start, encoder.subject_start("{}", prompt)) : start])
            rows.append(rows_at(embedded, mine))
    return torch.cat(rows)


def empty_rows(encoders: Encoders) -> Tensor:
    """All rows of the empty prompt, `(n, d)`."""
    return torch.cat([encoder.encode([""])[0] for encoder in encoders])


def vocabulary_rows(encoders: Encoders, words: Sequence[str], templates: Sentences) -> ProtectedWords:
    """Rows of every word in every template of its, from its first token to a few positions after the end of the prompt.

    What stands before the word is the same for all words. Padding after the end changes little: a long encoder's is
    represented by one position. Instructions that the denoiser reads before every prompt are protected as one more
    word.
    """
    if not words:
        return ProtectedWords((), ())
    parts = [_vocabulary_rows(encoder, words, templates) for encoder in encoders]
    rows = [torch.cat(part) for part in zip(*parts, strict=True)]
    instructions = [instruction for encoder in encoders if len(instruction := _instructions(encoder, words[0]))]
    names = [*words, *([INSTRUCTIONS] if instructions else [])]
    return ProtectedWords(tuple(names), (*rows, *([torch.cat(instructions)] if instructions else [])))


def _instructions(encoder: TextEncoder, word: str) -> Tensor:
    """Rows before a prompt that every prompt has, but for the start token."""
    if not encoder.reader.before:
        return torch.zeros(0, encoder.width)
    (rows,) = encoder.encode_each([word], 0)
    return rows[1 : max(1, encoder.subject_at("{}", word) - encoder.subject_size(word) + 1)]


def _vocabulary_rows(encoder: TextEncoder, words: Sequence[str], templates: Sentences) -> list[Tensor]:
    sentences = {word: templates(word) if callable(templates) else templates for word in words}
    prompts = [fill(template, word) for word in words for template in sentences[word]]
    embedded = iter(encoder.encode_words(prompts))
    rows = []
    for word in words:
        parts = []
        for template in sentences[word]:
            first = encoder.subject_at(template, word) - encoder.subject_size(word) + 1
            parts.append(next(embedded)[max(first, 0) :])
        rows.append(torch.cat(parts))
    return rows


def average_of(words: Sequence[str]) -> list[str]:
    """The words whose mean is the guide `average`."""
    return spread(words, AVERAGE_OVER)


def safe_words(words: Sequence[str]) -> Span:
    """The words whose span is the guide `safe`."""
    return Span(spread(words, SAFE_WORDS))


def spread(words: Sequence[str], count: int) -> list[str]:
    """All of the words, or `count` of them spread evenly."""
    step = max(1, len(words) / count)
    return [words[int(i * step)] for i in range(min(len(words), count))]


def _joined(parts: Iterable[Rows]) -> Rows:
    pairs = list(parts)
    return Rows(torch.cat([pair.source for pair in pairs]), torch.cat([pair.target for pair in pairs]))
