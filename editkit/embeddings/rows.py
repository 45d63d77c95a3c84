"""Which rows of a prompt's embedding an edit uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editkit.edits.method import Tokens


class Place(NamedTuple):
    """Where the subject is in a prompt: the rows of its first and last token, and that of the prompt's end token."""

    first: int
    last: int
    end: int


def paired_rows(tokens: Tokens, concept: Place, guide: Place, length: int) -> tuple[list[int], list[int]]:
    """Rows of the concept's prompt and of the guide's that belong together.

    Args:
        tokens: `last`: the last subject token; `tail`: from there to the end of the padded sequence, as far as both
            reach; `all`: every position, side by side; `eot`: the end token, which is where TRCE edits; `ends`: that
            and the last subject token; `around`: all but the subject, before it and after it (MACE's refinement).
        concept, guide: where the subject is in each prompt.
        length: positions of a padded sequence.
    """
    if tokens == "last":
        return [concept.last], [guide.last]
    if tokens == "ends" and concept.last != concept.end:
        return [concept.last, concept.end], [guide.last, guide.end]
    if tokens in ("eot", "ends"):
        return [concept.end], [guide.end]
    if tokens == "all":
        return list(range(length)), list(range(length))
    skip = int(tokens == "around")
    before = list(range(min(concept.first, guide.first) if skip else 0))
    count = length - max(concept.last, guide.last) - skip
    mine, theirs = (range(place.last + skip, place.last + skip + count) for place in (concept, guide))
    return [*before, *mine], [*before, *theirs]


def last_subject_token(prompt: Sequence[int], suffix: Sequence[int], ends: int = 1) -> int:
    """Position of the subject's last token.

    `prompt` are the ids with start and end token and without padding, `suffix` those that follow the subject, without
    the last `ends` of every prompt. An empty prompt has no subject: its first token stands for it.
    """
    return max(0, len(prompt) - 1 - ends - len(suffix))


def continued(rows: Tensor, length: int) -> Tensor:
    """Rows `(n, d)` continued with their last to `(length, d)`: behind a mask prompts end where they end."""
    return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])
