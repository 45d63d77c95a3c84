"""Prompts to embedding rows: the text encoder of a model, each prompt encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.embeddings.cache import cached
from editkit.embeddings.rows import last_subject_token
from editkit.errors import EditkitError


@dataclass
class TextEncoder:
    """A CLIP tokenizer and text model. `fingerprint` is the sha256 of the weights it came from."""

    tokenizer: Any
    model: Any
    fingerprint: str
    batch: int = 64
    _known: dict[tuple[str, int], Tensor] = field(default_factory=dict, repr=False)

    @property
    def length(self) -> int:
        """Positions of a padded prompt."""
        return int(self.tokenizer.model_max_length)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    def tokens(self, prompt: str) -> list[int]:
        """Token ids with start and end token, without padding.

        Raises:
            EditkitError: the prompt is longer than the encoder reads.
        """
        ids = self.tokenizer(prompt or " ", truncation=False).input_ids
        if len(ids) > self.length:
            raise EditkitError(
                f"prompt {prompt[:40]!r}: {len(ids)} tokens, but this text encoder reads {self.length}; shorten it"
            )
        return ids

    def subject_at(self, template: str, words: str) -> int:
        """Position of the last token of `words` in `fill(template, words)`."""
        suffix = self.tokenizer(template.split("{}", 1)[1], add_special_tokens=False).input_ids
        return last_subject_token(self.tokens(fill(template, words)), suffix)

    def subject_size(self, words: str) -> int:
        """How many tokens `words` are, at least one."""
        return max(1, len(self.tokenizer(words, add_special_tokens=False).input_ids))

    def encode(self, prompts: Sequence[str], length: int | None = None) -> Tensor:
        """`(prompts, length, width)` float64 on the CPU, computed in float32.

        An empty prompt is encoded as one space, as the reference implementations of UCE and RECE do. The encoder is
        causal, so a `length` below the full one gives the very same first rows for less work.
        """
        length = min(length or self.length, self.length)
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, length) not in self._known]
        if missing:
            rows = cached(self.fingerprint, missing, length, lambda: self._run(missing, length))
            self._known.update({(prompt, length): one for prompt, one in zip(missing, rows, strict=True)})
        return torch.stack([self._known[prompt, length] for prompt in prompts]).double()

    def _run(self, prompts: Sequence[str], length: int) -> Tensor:
        parts = [self._batch(prompts[i : i + self.batch], length) for i in range(0, len(prompts), self.batch)]
        return torch.cat(parts)

    @torch.no_grad()
    def _batch(self, prompts: Sequence[str], length: int) -> Tensor:
        ids = self.tokenizer(
            [prompt or " " for prompt in prompts],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        rows = self.model(ids.to(self.model.device))[0]
        if not torch.isfinite(rows).all():
            raise EditkitError(
                "the text encoder gives values that are not finite; its weights are damaged, load others"
            )
        return rows.float().cpu()
