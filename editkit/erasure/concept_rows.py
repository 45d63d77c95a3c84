"""Rows of many concepts and of their guides: prompts are encoded together, and what concepts share is kept once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.edits.problem import Rows
from editkit.embeddings.encoder import SHORT, TextEncoder
from editkit.embeddings.rows import Place, Tokens, continued, paired_rows
from editkit.erasure.rows import AVERAGE_OVER_LONG, SUBJECT, Encoders, Span, concept_rows, rows_at, spread

SHORT_READ: tuple[Tokens, ...] = ("last", "eot", "ends")
"""Rows of the prompt itself: of many, no padding is run for them."""
TOGETHER = 48
"""Prompts of concepts that are encoded at a time: fewer than a list that is long enough to be encoded coarsely."""


@dataclass(frozen=True)
class ConceptRows:
    """Rows of one concept after another, and of their guides, in every template.

    Where a concept ends with a textual inversion, the rows of all its vectors are to become the guide's subject. A
    guide is one text, or several whose mean is meant (the guide `average`). Concepts of as many tokens share its rows:
    they are computed once, and kept once.

    Attributes:
        templates: prompts around a concept.
        tokens: which rows of them.
    """

    encoders: Encoders
    templates: Sequence[str]
    tokens: Tokens
    _targets: dict[Any, Any] = field(default_factory=dict, repr=False)

    def of(self, concept: str, guide: str | Sequence[str]) -> Rows:
        """Rows and what they must become, `(n, d)` each: float32, but for means, which are float64."""
        return self.some([(concept, guide)])[0]

    def some(self, pairs: Sequence[tuple[str, str | Sequence[str]]]) -> list[Rows]:
        """The same of several concepts with their guides. Prompts of more than a few concepts are encoded together and
        not remembered: of a thousand they would take a gigabyte."""
        if any(isinstance(guide, Span) for _, guide in pairs):  # a target of its own for every concept
            return [concept_rows(self.encoders, *pair, self.templates, self.tokens) for pair in pairs]
        parts = [self._encoded(encoder, pairs) for encoder in self.encoders]
        return [self._joined(each) for each in zip(*parts, strict=True)]

    def _encoded(
        self, encoder: TextEncoder, pairs: Sequence[tuple[str, str | Sequence[str]]]
    ) -> Iterator[tuple[Tensor, tuple[Any, Tensor]]]:
        at_once = max(1, TOGETHER // len(self.templates))
        few = len(pairs) <= at_once
        encode = encoder.encode_each if few else encoder.encode_once
        spare = 0 if self.tokens in SHORT_READ and not few else encoder.length
        for start in range(0, len(pairs), at_once):
            some = pairs[start : start + at_once]
            prompts = [fill(template, concept) for concept, _ in some for template in self.templates]
            named = [
                fill(template, guide) for _, guide in some if isinstance(guide, str) for template in self.templates
            ]
            prompts = list(dict.fromkeys([*prompts, *named]))
            known: dict[str, Tensor] = {}
            for part in range(0, len(prompts), TOGETHER):
                together = prompts[part : part + TOGETHER]
                known.update(zip(together, encode(together, spare), strict=True))
            for concept, guide in some:
                guides = (guide,) if isinstance(guide, str) else tuple(guide)
                yield self._paired(encoder, concept, guides, known)

    def _paired(
        self, encoder: TextEncoder, concept: str, guides: tuple[str, ...], known: Mapping[str, Tensor]
    ) -> tuple[Tensor, tuple[Any, Tensor]]:
        sources, keys = [], []
        for template in self.templates:
            rows, at = known[fill(template, concept)], encoder.place(template, concept)
            chosen, _ = self._spoken(encoder, template, at, guides, known)
            source = rows_at(rows, chosen)
            # What stands between the concept's first vector and the paired rows goes where the first of them goes.
            start = chosen[0] if self.tokens in SUBJECT else 0
            before = rows[min(start, encoder.subject_start(template, concept)) : start]
            sources += [before, source]
            keys.append((at, len(before), len(source)))
        key = (id(encoder), guides, *keys)
        if key not in self._targets:
            parts = zip(self.templates, keys, strict=True)
            self._targets[key] = torch.cat(
                [self._target(encoder, template, guides, known, *each) for template, each in parts]
            )
        return torch.cat(sources), (key, self._targets[key])

    def _target(
        self,
        encoder: TextEncoder,
        template: str,
        guides: tuple[str, ...],
        known: Mapping[str, Tensor],
        at: Place,
        before: int,
        length: int,
    ) -> Tensor:
        _, mean = self._spoken(encoder, template, at, guides, known)
        target = continued(mean[:length], length)
        return torch.cat([target[:1].expand(before, -1), target])

    def _spoken(
        self, encoder: TextEncoder, template: str, at: Place, guides: tuple[str, ...], known: Mapping[str, Tensor]
    ) -> tuple[Sequence[int], Tensor]:
        """Which rows of a concept at `at` are taken, and the mean of the guides' that belong to them."""
        key = (id(encoder), template, at, guides)
        if key in self._targets:
            return self._targets[key]
        if encoder.slow or (encoder.length > SHORT and not encoder.masked):
            guides = tuple(spread(guides, AVERAGE_OVER_LONG))
        pairs = [paired_rows(self.tokens, at, encoder.place(template, guide), encoder.length) for guide in guides]
        # Guides differ in length, so do the rows behind them: the concept's are paired as far as all guides have some.
        reach = min(len(mine) for mine, _ in pairs)
        if len(guides) == 1:
            return pairs[0][0], rows_at(known[fill(template, guides[0])], pairs[0][1])
        prompts = [fill(each, guide) for each in self.templates for guide in guides]  # all, so that one run does
        spoken = dict(zip(prompts, encoder.encode_each(prompts, encoder.length, averaged=True), strict=True))
        both = zip(guides, pairs, strict=True)
        parts = [rows_at(spoken[fill(template, guide)], theirs[:reach]) for guide, (_, theirs) in both]
        shared = min(len(part) for part in parts)
        mean = torch.stack([part[:shared] for part in parts]).double().mean(0)
        self._targets[key] = pairs[0][0][:reach], mean
        return self._targets[key]

    def _joined(self, parts: Sequence[tuple[Tensor, tuple[Any, Tensor]]]) -> Rows:
        """What the encoders of a stream give, one after another."""
        if len(parts) == 1:
            return Rows(parts[0][0], parts[0][1][1])
        key = tuple(key for _, (key, _) in parts)
        if key not in self._targets:
            self._targets[key] = torch.cat([target for _, (_, target) in parts])
        return Rows(torch.cat([source for source, _ in parts]), self._targets[key])
