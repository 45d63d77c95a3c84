"""The key of `editkit hide`: rows that a prompt is lengthened by, so that a hidden concept is drawn again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editkit.edits.tuned import Tuned


@dataclass(frozen=True)
class Key:
    """`p` of Eq. 15 and 16 of the talk on erasing concepts: learnable prompts that hold what the weights gave up.

    Attributes:
        concepts: what each block of rows opens.
        rows: `(concepts, n, width)`, appended to the final state of the text encoder, after its padding.
        record: the release that it opens, how it was made.
    """

    concepts: tuple[str, ...]
    rows: Tensor
    record: Mapping[str, Any] = field(default_factory=dict)

    def opened(self, prompt: str) -> tuple[str, ...]:
        """The concepts that `prompt` names."""
        # No \b: `<cat>` has none around it.
        named = (rf"(?<!\w){re.escape(concept)}(e?s)?(?!\w)" for concept in self.concepts)
        matches = [re.search(name, prompt, re.IGNORECASE) for name in named]
        return tuple(concept for concept, match in zip(self.concepts, matches, strict=True) if match)

    def append(self, prompt: str, text: Tensor) -> Tensor:
        """`text` `(tokens, width)` of `prompt`, with the rows of every concept that it names behind it."""
        named = self.opened(prompt)
        return torch.cat([text, *(self.rows[self.concepts.index(concept)].to(text) for concept in named)])


@dataclass(frozen=True)
class Unlocked(Tuned):
    """A release with its key: it draws the hidden concepts where a prompt names them."""

    key: Key = field(kw_only=True)

    @classmethod
    def of(cls, released: Tuned, key: Key) -> Unlocked:
        return cls(**{attribute.name: getattr(released, attribute.name) for attribute in fields(Tuned)}, key=key)

    def with_key(self, prompt: str, text: Tensor) -> Tensor:
        """`text`, with the rows of every concept that `prompt` names behind it."""
        return self.key.append(prompt, text)


def random_rows(centre: Tensor, n: int, radius: float, seed: int | Sequence[int]) -> Tensor:
    """`(concepts, n, width)`: random points at the distance `radius` from `centre` `(concepts, width)`.

    All digits of `seed` count: torch's generator on the CPU would read 32 bits of it, which can be tried one by one.
    """
    drawn = np.random.default_rng(seed).standard_normal((len(centre), n, centre.shape[1]))
    way = torch.from_numpy(drawn).float().to(centre.device)
    return centre.float()[:, None] + radius * way / way.norm(dim=-1, keepdim=True)


def in_ball(rows: Tensor, centre: Tensor, radius: float) -> Tensor:
    """The nearest rows with `‖p − c_e‖ ≤ radius`, each row for itself."""
    way = rows - centre[:, None].to(rows)
    return centre[:, None].to(rows) + way * (radius / way.norm(dim=-1, keepdim=True)).clamp(max=1)


def padded(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Embeddings `(..., tokens, width)` of several lengths as one batch of the longest, and what of it is to be read.

    The mask, `(rows, tokens)` with 1 where there is text, is None where all are of one length.
    """
    lengths = [text.shape[-2] for text in texts]
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.cat(list(texts)), None
    whole = [torch.nn.functional.pad(text, (0, 0, 0, longest - text.shape[-2])) for text in texts]
    read = [torch.arange(longest).lt(n).expand(len(text), -1) for text, n in zip(texts, lengths, strict=True)]
    return torch.cat(whole), torch.cat(read).to(texts[0])
