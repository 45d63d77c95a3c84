"""Which rows of a prompt's embedding an edit uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.edits.method import Tokens


def paired_rows(tokens: Tokens, concept_at: int, guide_at: int, length: int) -> tuple[range, range]:
    """Rows of the concept's prompt and of the guide's that belong together.

    Args:
        tokens: `last`: the last subject token; `tail`: from there to the end of the padded sequence, as far as both
            reach; `all`: every position, side by side.
        concept_at, guide_at: position of the last subject token in each prompt.
        length: positions of a padded sequence.
    """
    if tokens == "last":
        return range(concept_at, concept_at + 1), range(guide_at, guide_at + 1)
    if tokens == "all":
        return range(length), range(length)
    count = length - max(concept_at, guide_at)
    return range(concept_at, concept_at + count), range(guide_at, guide_at + count)


def last_subject_token(prompt: Sequence[int], suffix: Sequence[int], ends: int = 1) -> int:
    """Position of the subject's last token.

    `prompt` are the ids with start and end token and without padding, `suffix` those that follow the subject, without
    the last `ends` of every prompt. An empty prompt has no subject: its first token stands for it.
    """
    return max(0, len(prompt) - 1 - ends - len(suffix))


def continued(rows: Tensor, length: int) -> Tensor:
    """Rows `(n, d)` continued with their last to `(length, d)`: behind a mask prompts end where they end."""
    return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])
