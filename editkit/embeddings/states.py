"""What the text encoders of a pipeline give: functions from prompts to rows, put together as each family does it.

A function takes prompts, how many rows of each are wanted, and whether bfloat16 will do; it returns the rows of one
prompt after another, `(Σ sizes, width)` float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from editkit.embeddings.clip_text import ClipText
from editkit.errors import EditkitError

States = Callable[[Sequence[str], Sequence[int], bool], Tensor]

AT_A_TIME = 1024
"""Positions that a T5 encoder is given at a time."""


def clip_states(tokenizer: Any, model: ClipText, layer: int | None = None) -> States:
    """Hidden states of a CLIP text model: the last ones after the final norm, or those of `layer` before it."""

    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        padded = [
            (ids + [tokenizer.pad_token_id] * (size - len(ids)))[:size]
            for ids, size in zip(_ids(tokenizer, prompts), sizes, strict=True)
        ]
        return model.rows(padded, layer, coarse)

    return states


def clip_pooled(tokenizer: Any, model: ClipText, projected: bool) -> States:
    """One row a prompt: the pooled vector of a CLIP text model, after its text projection where `projected`."""
    return lambda prompts, sizes, coarse: model.pooled(_ids(tokenizer, prompts), projected, coarse)


def t5_states(tokenizer: Any, model: Any, length: int) -> States:
    """Hidden states of a T5 encoder that attends to its padding, as SD3 and FLUX run it, at `length` positions."""

    @torch.no_grad()
    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        found, step = [], max(1, AT_A_TIME // length)
        for start in range(0, len(prompts), step):
            some = slice(start, start + step)
            with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
                rows = model(_padded(tokenizer, prompts[some], length).to(model.device)).last_hidden_state.float().cpu()
            found += [one[:size] for one, size in zip(rows, sizes[some], strict=True)]
        return torch.cat(found)

    return states


def side_by_side(*parts: States) -> States:
    """The widths of several encoders, one after another in every row."""
    return lambda prompts, sizes, coarse: torch.cat([part(prompts, sizes, coarse) for part in parts], dim=-1)


def widened(part: States, width: int) -> States:
    """Rows filled up with zeros to `width`."""

    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        rows = part(prompts, sizes, coarse)
        return torch.nn.functional.pad(rows, (0, width - rows.shape[-1]))

    return states


def finite(rows: Tensor) -> Tensor:
    """`rows`, or an error where a value is not a number."""
    if not torch.isfinite(rows).all():
        raise EditkitError("the text encoder gives values that are not finite; its weights are damaged, load others")
    return rows


def spoken(prompts: Sequence[str]) -> list[str]:
    """An empty prompt is encoded as one space, as the reference code of UCE and RECE does."""
    return [prompt or " " for prompt in prompts]


def _ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids without padding."""
    return tokenizer(spoken(prompts), truncation=True, max_length=tokenizer.model_max_length).input_ids


def _padded(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    given = {"padding": "max_length", "max_length": length, "truncation": True}
    return tokenizer(spoken(prompts), return_tensors="pt", **given).input_ids
