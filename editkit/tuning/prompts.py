"""The prompts that a run reads: erased concepts, their guides, and the candidates of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Condition, Denoiser

AT_A_TIME = 64


@dataclass(frozen=True)
class Prompts:
    """What the denoiser reads of whole prompts, in float32 and on its device.

    Attributes:
        known: every prompt once, one a row; the empty one first.
        erased, guides: their rows, `(concepts, templates)`.
        candidates: `(concepts, K, templates)`, likewise; K is 0 where nothing is searched.
        words: the candidates' names, K for each concept.
        alike: which of the erased are said for one concept, `(concepts, concepts)`, where a loss reads their mean.
        places: which tokens are the concept's, `(concepts, templates, tokens)`, where a loss reads attention to them.
        kept: rows of what is to be kept, in the first template, `(words,)`: what an anchor is measured on.
        away: what guidance leads away from, one row. Not always the empty prompt: SDXL has zeros in its place.
    """

    known: Condition
    erased: Tensor
    guides: Tensor
    candidates: Tensor
    words: tuple[tuple[str, ...], ...]
    away: Condition
    kept: Tensor | None = None
    places: Tensor | None = None
    alike: Tensor | None = None

    @property
    def count(self) -> int:
        return len(self.erased)

    @property
    def templates(self) -> int:
        return self.erased.shape[1]

    def e(self, concept: Tensor, template: Tensor) -> Condition:
        return self.known[self.erased[concept, template]]

    def n(self, concept: Tensor, template: Tensor) -> Condition:
        return self.known[self.guides[concept, template]]

    def o(self, concept: Tensor, template: Tensor) -> Condition:
        return self.known[torch.zeros_like(concept)]

    def a(self, concept: Tensor, candidate: Tensor, template: Tensor) -> Condition:
        return self.known[self.candidates[concept, candidate, template]]

    def tokens(self, concept: Tensor, template: Tensor) -> Tensor:
        """Which tokens are the concept's, `(rows, tokens)`."""
        assert self.places is not None
        return self.places[concept, template]

    def candidates_of(self, concept: int) -> Condition:
        """All of a concept, in the first template: K rows."""
        return self.known[self.candidates[concept, :, 0]]

    def mixed(self, concept: Tensor, template: Tensor, weights: Tensor) -> Condition:
        """Mixtures of whole prompts, one a row; `weights` `(rows, K)`."""
        known, choices = self.known, self.candidates[concept, :, template]
        # Of all that is known: K prompts of each row, gathered, would be copied and kept for the gradient.
        whole = weights.new_zeros(len(weights), len(known)).scatter_add(1, choices, weights).to(known.text)
        pooled = None if known.pooled is None else whole @ known.pooled
        return Condition(torch.einsum("rn,ntd->rtd", whole, known.text), pooled)


def encode_prompts(
    denoiser: Denoiser,
    concepts: Sequence[str],
    guides: Sequence[str],
    candidates: Sequence[Sequence[str]],
    templates: Sequence[str],
    kept: Sequence[str] = (),
) -> Prompts:
    """Each as the pipeline itself encodes it. A guide that is blank stands for the empty prompt, without a template
    around it."""

    def filled(words: Sequence[str]) -> list[list[str]]:
        return [[fill(template, word) if word.strip() else "" for template in templates] for word in words]

    wanted = [filled(concepts), filled(guides), *(filled(words) for words in candidates)]
    held = [fill(templates[0], word) for word in kept]
    texts = list(dict.fromkeys(["", *(text for rows in wanted for row in rows for text in row), *held]))
    number = {text: n for n, text in enumerate(texts)}

    def rows(filled: Sequence[Sequence[str]]) -> Tensor:
        return torch.tensor([[number[text] for text in row] for row in filled], device=denoiser.device)

    searched = [rows(texts) for texts in wanted[2:] if texts]
    erased = rows(wanted[0])
    none = erased.new_empty(len(concepts), 0, len(templates))
    words = tuple(tuple(words) for words in candidates)
    known, away = _conditions(denoiser, texts)
    found = torch.stack(searched) if searched else none
    return Prompts(known, erased, rows(wanted[1]), found, words, away, rows([held])[0] if held else None)


def _conditions(denoiser: Denoiser, texts: Sequence[str]) -> tuple[Condition, Condition]:
    """One row each; and what guidance leads away from."""
    rows = []
    for start in range(0, len(texts), AT_A_TIME):
        rows += denoiser.encode(texts[start : start + AT_A_TIME])[0]
    away = denoiser.encode([""], "")[1]
    assert away is not None
    return _exact(Condition.joined(rows)), _exact(away)


def _exact(condition: Condition) -> Condition:
    """In float32: T5 may give other numbers."""
    pooled = None if condition.pooled is None else condition.pooled.float()
    return replace(condition, text=condition.text.float(), pooled=pooled)
