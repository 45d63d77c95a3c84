"""Rows of concepts that are known from pictures: what a learned token says, in the same sentences as a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.vocabulary import FEW, SYNONYM_LIKENESS
from editkit.edits.method import Tokens
from editkit.edits.problem import Rows
from editkit.embeddings.learned import Learned, Vectors
from editkit.embeddings.rows import continued
from editkit.erasure.concept_rows import ConceptRows
from editkit.erasure.near import closeness, likeness
from editkit.erasure.rows import SUBJECT
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, check_learnable

MASKED = "what the masks leave"
"""What is written down as the guide of a concept that masks name."""
NEAREST = 3
"""Words that are named as nearest to what pictures taught."""


@dataclass(frozen=True)
class Pictured:
    """What pictures taught, in the model that it is erased from.

    Attributes:
        learned: one for each concept.
    """

    model: EditableModel
    learned: tuple[Learned, ...]

    @classmethod
    def of(cls, model: EditableModel, learned: Sequence[Learned]) -> Pictured:
        """What was learned, for a model that it fits.

        Raises:
            EditkitError: vectors of another width than the model's tokens have, or a word that is there twice.
        """
        words = [each.word for each in learned]
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice is not None:
            raise EditkitError(f"--picture: two of them are called {twice!r}, which would weigh it double; give one")
        made = cls(model, tuple(learned))
        if learned:
            check_learnable(model.source)
            made._check_widths()
        return made

    def of_word(self, word: str) -> Learned | None:
        """What is known of it from pictures."""
        return next((each for each in self.learned if each.word == word), None)

    def is_masked(self, word: str) -> bool:
        """Whether masks say what of its pictures is erased."""
        learned = self.of_word(word)
        return learned is not None and bool(learned.kept)

    @property
    def stays(self) -> list[str]:
        """Words for what masks leave."""
        return [word for each in self.learned if each.kept and (word := each.record.get("stays"))]

    @property
    def tokens(self) -> dict[str, Vectors]:
        """A token for every restart, and for what masks leave → its vectors."""
        tokens: dict[str, Vectors] = {}
        for n, each in enumerate(self.learned):
            tokens |= {_token(n, r): vectors for r, vectors in enumerate(each.restarts)}
            tokens |= {_token(n, r, "kept"): vectors for r, vectors in enumerate(each.kept)}
        return tokens

    @cached_property
    def knowing(self) -> EditableModel:
        """The model with these tokens."""
        return self.model.knowing(self.tokens) if self.learned else self.model

    def named(self, text: str) -> str:
        """A token of `tokens` by the name of its file's; other texts as they are."""
        own = {_token(n, r): each.token for n, each in enumerate(self.learned) for r in range(len(each.restarts))}
        return own.get(text, text)

    def asked(self, word: str, guide: str) -> list[tuple[str, str]]:
        """Tokens to say for a concept that is known from pictures, one of every restart, and what each becomes: the
        guide, or with masks the token of what they leave. None for other words."""
        learned = self.of_word(word)
        if learned is None:
            return []
        n = self.learned.index(learned)
        tokens = [_token(n, r) for r in range(len(learned.restarts))]
        return [(token, _token(n, r, "kept") if learned.kept else guide) for r, token in enumerate(tokens)]

    def rows(
        self, stream: int, learned: Learned, guide: str | Sequence[str], templates: Sequence[str], tokens: Tokens
    ) -> Rows:
        """Rows of every restart in every template, and of what it becomes, `(n, d)` each: of the guide, or with masks
        of what they leave.

        A learned token's rows are longer than a word's, and in sums of squares would count for more. So each row is
        brought to the length, as keys and values see it (`√(c G cᵀ)`), that the class word's has at its place; and so
        is what it becomes.
        """
        n = self.learned.index(learned)
        parts = []
        for template in templates:
            sizes = self._sizes(stream, learned, guide, template, tokens)
            for r in range(len(learned.restarts)):
                becomes = _token(n, r, "kept") if learned.kept else guide
                rows = self._rows(stream, template, tokens).of(_token(n, r), becomes)
                lead = learned.vectors - 1 if tokens in SUBJECT else 0
                like = continued(torch.cat([sizes[:1].expand(lead, -1), sizes])[: len(rows.source)], len(rows.source))
                gram = self.model.streams[stream].gram
                parts.append(Rows(_as_long(rows.source, like, gram), _as_long(rows.target, like, gram)))
        return Rows.joined(parts)

    def alike(self, words: Sequence[str]) -> list[str]:
        """Those of `words` that mean what pictures show, by their `likeness` to any restart: like synonyms, an edit
        cannot hold them and erase the pictures. Of pictures with masks none: what stays is in them, too."""
        tokens: list[str] = [
            _token(n, r) for n, each in enumerate(self.learned) if not each.kept for r in range(len(each.restarts))
        ]
        if not tokens or len(words) < FEW:
            return []
        near = likeness(self.knowing.encoder, words, tokens, self.model.gram)
        best = near.max(dim=1).values.tolist()
        return [word for word, share in zip(words, best, strict=True) if share > SYNONYM_LIKENESS]

    def told(self, learned: Learned) -> dict[str, Any]:
        """For the record: how it was learned, and which words are nearest to the best restart."""
        n, words = self.learned.index(learned), self.model.own_words()
        near = closeness(self.knowing.encoder, words, [_token(n, 0)], self.model.gram)[:, 0]
        return {
            "token": learned.token,
            "vectors": learned.vectors,
            "restarts": len(learned.restarts),
            "masked": bool(learned.kept),
            "sha256": learned.sha256,
            "near": [words[m] for m in near.topk(min(NEAREST, len(words))).indices.tolist()],
            "learned": dict(learned.record),
        }

    def _rows(self, stream: int, template: str, tokens: Tokens) -> ConceptRows:
        return ConceptRows(self.knowing.streams[stream].encoders, (template,), tokens)

    def _sizes(
        self, stream: int, learned: Learned, guide: str | Sequence[str], template: str, tokens: Tokens
    ) -> Tensor:
        """Of the class word's rows, `(n, 1)`."""
        becomes = learned.word if learned.kept else guide
        rows = self._rows(stream, template, tokens).of(learned.word, becomes).source.double()
        return _length(rows, self.model.streams[stream].gram)

    def _check_widths(self) -> None:
        """The rows of two encoders stand side by side, so their widths add up to the model's."""
        encoders, width = 2 if self.model.source.family.name == "sdxl" else 1, self.model.encoder.width
        for each in self.learned:
            widths = [rows.shape[1] for rows in each.best]
            if len(widths) != encoders or sum(widths) != width:
                raise EditkitError(
                    f"--picture: {each.token} has vectors of width {' + '.join(map(str, widths))}, the tokens of "
                    f"model {self.model.source.name} have {width}{' in two encoders' if encoders > 1 else ''}; "
                    "learn it from this model"
                )


def check_guides(shown: Pictured, concepts: Sequence[str], guides: Sequence[str]) -> None:
    """Refuse a guide where masks say what a concept becomes.

    Raises:
        EditkitError: naming the concept.
    """
    masked = [concept for concept in concepts if shown.is_masked(concept)]
    if guides and masked:
        raise EditkitError(
            f"--guide: {masked[0]!r} was learned with masks and becomes what they leave; leave out --guide, or "
            "learn it without masks"
        )


def _token(number: int, restart: int, kind: str = "shown") -> str:
    return f"<editkit-{kind}-{number}-{restart}>"


def _length(rows: Tensor, gram: Tensor) -> Tensor:
    return (rows @ gram * rows).sum(1, keepdim=True).clamp(min=0).sqrt()


def _as_long(rows: Tensor, like: Tensor, gram: Tensor) -> Tensor:
    rows = rows.double()
    return rows * (like / _length(rows, gram).clamp(min=1e-12))
