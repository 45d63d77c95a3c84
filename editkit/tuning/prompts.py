"""The embeddings that a run reads: erased concepts, their guides, and the candidates of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Condition, Denoiser

AT_A_TIME = 64


@dataclass(frozen=True)
class Prompts:
    """Final text-encoder states, whole prompts (tokens × width), on the device of the denoiser.

    Attributes:
        erased, guides: `(concepts, templates, tokens, width)`.
        neutral: the empty prompt, `(1, tokens, width)`.
        candidates: `(concepts, K, templates, tokens, width)`; K is 0 where nothing is searched.
        words: the candidates' names, K for each concept.
    """

    erased: Tensor
    guides: Tensor
    neutral: Tensor
    candidates: Tensor
    words: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        return len(self.erased)

    @property
    def templates(self) -> int:
        return self.erased.shape[1]

    def e(self, concept: Tensor, template: Tensor) -> Tensor:
        return self.erased[concept, template]

    def n(self, concept: Tensor, template: Tensor) -> Tensor:
        return self.guides[concept, template]

    def a(self, concept: Tensor, candidate: Tensor, template: Tensor) -> Tensor:
        return self.candidates[concept, candidate, template]

    def mixed(self, concept: Tensor, template: Tensor, weights: Tensor) -> Tensor:
        """Mixtures of whole prompts, `(rows, tokens, width)`; `weights` `(rows, K)`."""
        choices = self.candidates[concept, :, template]
        return torch.einsum("rk,rktd->rtd", weights.to(choices), choices)


def encode_prompts(
    denoiser: Denoiser,
    concepts: Sequence[str],
    guides: Sequence[str],
    candidates: Sequence[Sequence[str]],
    templates: Sequence[str],
) -> Prompts:
    """A guide that is blank stands for the empty prompt, without a template around it."""

    def filled(words: Sequence[str]) -> list[list[str]]:
        return [[fill(template, word) if word.strip() else "" for template in templates] for word in words]

    wanted = [filled(concepts), filled(guides), *(filled(words) for words in candidates)]
    texts = list(dict.fromkeys(["", *(text for rows in wanted for row in rows for text in row)]))
    known = dict(zip(texts, _states(denoiser, texts), strict=True))

    def rows(filled: Sequence[Sequence[str]]) -> Tensor:
        return torch.stack([torch.stack([known[text] for text in row]) for row in filled])

    searched = [rows(texts) for texts in wanted[2:] if texts]
    erased = rows(wanted[0])
    none = erased.new_empty(len(concepts), 0, *erased.shape[1:])
    words = tuple(tuple(words) for words in candidates)
    return Prompts(erased, rows(wanted[1]), known[""][None], torch.stack(searched) if searched else none, words)


def _states(denoiser: Denoiser, texts: Sequence[str]) -> Tensor:
    """`(texts, tokens, width)` float32, each as the pipeline itself embeds it."""
    parts = []
    for start in range(0, len(texts), AT_A_TIME):
        encoded, _ = denoiser.encode(texts[start : start + AT_A_TIME])
        parts.append(Condition.joined(encoded).text.float())
    return torch.cat(parts)
