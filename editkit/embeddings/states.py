"""What the text encoders of a pipeline give: functions from prompts to rows, put together as each family does it.

A function takes prompts and a number of positions and returns `(prompts, positions, width)` float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError

States = Callable[[Sequence[str], int], Tensor]


def clip_states(tokenizer: Any, model: Any, layer: int | None = None) -> States:
    """Hidden states of a CLIP text model: the last ones after the final norm, or those of `layer` before it."""

    @torch.no_grad()
    def states(prompts: Sequence[str], length: int) -> Tensor:
        ids = _ids(tokenizer, prompts, length).to(model.device)
        if layer is None:
            return model(ids).last_hidden_state.float().cpu()
        return model(ids, output_hidden_states=True).hidden_states[layer].float().cpu()

    return states


def clip_pooled(tokenizer: Any, model: Any, projected: bool) -> States:
    """One row a prompt: the pooled vector of a CLIP text model, after its text projection where `projected`."""

    @torch.no_grad()
    def states(prompts: Sequence[str], length: int) -> Tensor:
        texts = [prompt or " " for prompt in prompts]  # what follows the end token is not looked at: no padding to 77
        ids = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt").input_ids
        found = model(ids.to(model.device))
        return (found.text_embeds if projected else found.pooler_output).float().cpu()[:, None]

    return states


def t5_states(tokenizer: Any, model: Any) -> States:
    """Hidden states of a T5 encoder that attends to its padding, as SD3 and FLUX run it."""

    @torch.no_grad()
    def states(prompts: Sequence[str], length: int) -> Tensor:
        return model(_ids(tokenizer, prompts, length).to(model.device)).last_hidden_state.float().cpu()

    return states


def side_by_side(*parts: States) -> States:
    """The widths of several encoders, one after another in every row."""
    return lambda prompts, length: torch.cat([part(prompts, length) for part in parts], dim=-1)


def widened(part: States, width: int) -> States:
    """Rows filled up with zeros to `width`."""

    def states(prompts: Sequence[str], length: int) -> Tensor:
        rows = part(prompts, length)
        return torch.nn.functional.pad(rows, (0, width - rows.shape[-1]))

    return states


def finite(rows: Tensor) -> Tensor:
    """`rows`, or an error where a value is not a number."""
    if not torch.isfinite(rows).all():
        raise EditkitError("the text encoder gives values that are not finite; its weights are damaged, load others")
    return rows


def _ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """Padded token ids. An empty prompt is encoded as one space, as the reference code of UCE and RECE does."""
    texts = [prompt or " " for prompt in prompts]
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
