"""From concepts and attributes to the rows that an edit steers, and how each attribute moves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.concepts.attributes import Attribute
from editkit.concepts.templates import fill
from editkit.edits.method import Tokens
from editkit.edits.problem import Rows
from editkit.edits.time import align
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.rows import paired_rows
from editkit.erasure.rows import Encoders, rows_at


@dataclass(frozen=True)
class Steered:
    """Rows of one concept, `(n, d)`, and how each attribute moves them, `(t, n, d)`."""

    rows: Tensor
    moves: Tensor

    @property
    def unmoved(self) -> Rows:
        """The rows, as what must stay as it is."""
        return Rows(self.rows, self.rows)


def steered_rows(
    encoders: Encoders, concept: str, attributes: Sequence[Attribute], templates: Sequence[str], tokens: Tokens
) -> Steered:
    """`A_t` is the rows of "a woman doctor" less those of "a doctor", each token beside itself (TIME's alignment): what
    the attribute does to the concept, and not the attribute's own row, which is another word's."""
    parts = [_steered(encoder, concept, attributes, template, tokens) for encoder in encoders for template in templates]
    return Steered(torch.cat([part.rows for part in parts]), torch.cat([part.moves for part in parts], dim=1))


def _steered(
    encoder: TextEncoder, concept: str, attributes: Sequence[Attribute], template: str, tokens: Tokens
) -> Steered:
    source = fill(template, concept)
    asked = [fill(template, attribute.prompt(concept)) for attribute in attributes]
    before, *after = encoder.encode([source, *asked])
    if encoder.pooled:
        return Steered(before, torch.stack(after) - before)
    place = encoder.place(template, concept)
    chosen = [at for at in paired_rows(tokens, place, place, encoder.length)[0] if at < len(before)]
    moves = []
    for prompt, rows in zip(asked, after, strict=True):
        beside = align(encoder.tokens(source), encoder.tokens(prompt), max(len(before), len(rows)))
        moves.append(rows[[min(beside[at], len(rows) - 1) for at in chosen]])
    mine = rows_at(before, chosen)
    return Steered(mine, torch.stack(moves) - mine)


def bare_rows(encoders: Encoders, concept: str, attributes: Sequence[Attribute]) -> Steered:
    """The last subject row of the concept alone, and the attributes' own: UCE's published targets `c + Σ_t α_t a_t`."""
    rows, moves = [], []
    for encoder in encoders:
        (mine,) = encoder.encode([concept])
        at = encoder.place("{}", concept).last
        words = [" ".join(attribute.seen) for attribute in attributes]
        theirs = zip(words, encoder.encode(words), strict=True)
        rows.append(mine[at : at + 1])
        moves.append(torch.stack([row[(place := encoder.place("{}", word).last) : place + 1] for word, row in theirs]))
    return Steered(torch.cat(rows), torch.cat(moves, dim=1))
