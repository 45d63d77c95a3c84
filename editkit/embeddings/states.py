"""What the text encoders of a pipeline give: functions from prompts to rows, put together as each family does it.

A function takes prompts, how many rows of each are wanted, and whether bfloat16 will do; it returns the rows of one
prompt after another, `(Σ sizes, width)` float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from editkit.embeddings.clip_text import ClipText
from editkit.embeddings.reader import Reader
from editkit.errors import EditkitError

States = Callable[[Sequence[str], Sequence[int], bool], Tensor]

REMEMBERED = 8192
"""Prompts: more than a vocabulary has."""
AT_A_TIME = 1024
"""Positions that a model of transformers is given at a time."""


def clip_states(reader: Reader, model: ClipText, layer: int | None = None) -> States:
    """Hidden states of a CLIP text model: the last ones after the final norm, or those of `layer` before it."""

    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        pad = reader.tokenizer.pad_token_id
        padded = [(ids + [pad] * size)[:size] for ids, size in zip(map(reader.ids, prompts), sizes, strict=True)]
        return model.rows(padded, layer, coarse)

    return states


def clip_pooled(reader: Reader, model: ClipText, projected: bool) -> States:
    """One row a prompt: the pooled vector of a CLIP text model, after its text projection where `projected`. A prompt
    that is too long for it loses its last words, as in the pipelines: their other encoder reads more."""

    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        ids, limit = [reader.ids(prompt) for prompt in prompts], reader.limit
        return model.pooled(
            [row if len(row) <= limit else row[: limit - 1] + row[-1:] for row in ids], projected, coarse
        )

    return states


@dataclass
class ClipBoth:
    """Hidden states before the last layer, and projected pooled vectors, of one CLIP text model that gives both.

    A prompt whose states are run goes through the last layer, too: of a vocabulary that is half of all the time that
    its words take. What nobody asked for yet is remembered of the last `REMEMBERED` prompts.
    """

    reader: Reader
    model: ClipText
    _known: dict[tuple[bool, tuple[int, ...]], Tensor] = field(default_factory=dict, repr=False, init=False)

    def states(self, prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        ids, pad = [self.reader.ids(prompt) for prompt in prompts], self.reader.tokenizer.pad_token_id
        padded = [(row + [pad] * size)[:size] for row, size in zip(ids, sizes, strict=True)]
        if any(len(row) > size for row, size in zip(ids, sizes, strict=True)):
            return self.model.rows(padded, -2, coarse)
        rows, vectors = self.model.rows_and_pooled(padded, True, coarse)
        self._known |= {(coarse, tuple(row)): vector for row, vector in zip(ids, vectors, strict=True)}
        for key in list(self._known)[:-REMEMBERED]:
            del self._known[key]
        return rows

    def pooled(self, prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        """One row a prompt, as `clip_pooled` gives it."""
        keys = [(coarse, tuple(self.reader.ids(prompt))) for prompt in prompts]
        missing = [prompt for prompt, key in zip(prompts, keys, strict=True) if key not in self._known]
        if missing:
            run = iter(clip_pooled(self.reader, self.model, True)(missing, [1] * len(missing), coarse))
        else:
            run = iter(())
        return torch.stack([self._known[key] if key in self._known else next(run) for key in keys])

    def forget(self) -> None:
        """Remember nothing: the last bits of a row depend on the prompts that it was run with."""
        self._known.clear()


@dataclass
class Loaded:
    """A model of transformers that is there while rows are made of it, and that can be let go: for more rows it is read
    again.

    Attributes:
        read: reads it.
        device: where it lies.
    """

    read: Callable[[], Any]
    device: str = "cpu"
    _model: Any = field(default=None, repr=False, init=False)

    @property
    def model(self) -> Any:
        if self._model is None:
            self._model = self.read().to(self.device)
        return self._model

    def move(self, device: str) -> None:
        """Let it lie on `device` when it is read next."""
        self.device = device
        self.free()

    def free(self) -> None:
        """Let it go."""
        self._model = None


def padded_states(reader: Reader, loaded: Loaded, length: int) -> States:
    """Hidden states of a T5 encoder that attends to its padding, as SD3 and FLUX run it, at `length` positions."""

    @torch.no_grad()
    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        states, step, model = [], max(1, AT_A_TIME // length), loaded.model
        for start in range(0, len(prompts), step):
            ids, _ = _batch(reader, prompts[start : start + step], length)
            with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
                rows = model(ids.to(model.device)).last_hidden_state.float().cpu()
            states += _cut(rows, sizes[start : start + step])
        return torch.cat(states)

    return states


def masked_states(reader: Reader, loaded: Loaded, layers: Sequence[int] = (), blank: bool = False) -> States:
    """Hidden states of a model that does not attend to padding: no more than the prompts' own tokens are run.

    Args:
        layers: which of the hidden states, side by side; without, the last ones.
        blank: rows of padding are zero.
    """
    how = {"output_hidden_states": True, "use_cache": False} if layers else {}

    def run(prompts: Sequence[str], length: int) -> Tensor:
        model = loaded.model
        ids, mask = (tensor.to(model.device) for tensor in _batch(reader, prompts, length))
        out = model(ids, attention_mask=mask, **how)
        rows = torch.cat([out.hidden_states[n] for n in layers], -1) if layers else out.last_hidden_state
        rows = rows.float() * mask[..., None] if blank else rows.float()
        return rows[:, [at for at in range(length) if at not in reader.dropped]].cpu()

    @torch.no_grad()
    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        whole = [
            max(len(reader.dropped) + size, len(reader.ids(prompt)))
            for prompt, size in zip(prompts, sizes, strict=True)
        ]
        longest = max(whole)
        states, step = [], max(1, AT_A_TIME // longest)
        for start in range(0, len(prompts), step):
            with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
                rows = run(prompts[start : start + step], longest)
            states += _cut(rows, sizes[start : start + step])
        return torch.cat(states)

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


def behind(part: States, module: Callable[[Tensor], Tensor]) -> States:
    """Rows after a module that looks at each of them alone."""

    @torch.no_grad()
    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        return module(part(prompts, sizes, coarse))

    return states


def finite(rows: Tensor) -> Tensor:
    """`rows`, or an error where a value is not a number."""
    if not torch.isfinite(rows).all():
        raise EditkitError("the text encoder gives values that are not finite; its weights are damaged, load others")
    return rows


def _cut(rows: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The first rows of each prompt, apart: a part of them would keep all of the padding in memory."""
    return [row[:size].clone() for row, size in zip(rows, sizes, strict=True)]


def _batch(reader: Reader, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids padded to `length`, and the mask of what is no padding, `(prompts, length)` each."""
    ids = [reader.ids(prompt) for prompt in prompts]
    pad = reader.tokenizer.pad_token_id
    padded = torch.tensor([row + [pad] * (length - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
