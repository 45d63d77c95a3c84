"""What draws: the protocol that every kind of pipeline fills in, and what its network reads of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from editkit.drawing.sampling import Sampling
from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate, moved
from editkit.edits.key import padded
from editkit.edits.variant import TextStream
from editkit.model.checkpoints.source import Source
from editkit.model.placement import Placement


@dataclass(frozen=True)
class Condition:
    """What a network reads of prompts, one row each. `text` and `pooled` are the streams that an edit can map.

    Attributes:
        text: `(rows, tokens, width)`.
        pooled: `(rows, width)`, where the network reads one vector of a prompt, too.
        mask: `(rows, tokens)`, 1 where there is text; None where all of every row is read.
        scale: `(rows,)`, the guidance that a distilled network (FLUX.1 dev) reads beside the prompt; None is its
            pipeline's usual one. Other networks do not read it.
    """

    text: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Condition]) -> Condition:
        """One batch of several, of any lengths: the shorter ones are padded, and then there is a mask."""
        text, mask = padded([part.text for part in parts])
        if any(part.mask is not None for part in parts):
            longest = text.shape[1]
            own = [part.text.new_ones(part.text.shape[:2]) if part.mask is None else part.mask for part in parts]
            mask = torch.cat([functional.pad(each.to(text), (0, longest - each.shape[1])) for each in own])
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return cls(text, torch.cat(pooled) if pooled else None, mask)

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: Tensor | slice) -> Condition:
        kept: dict[str, Any] = {name: None if value is None else value[rows] for name, value in vars(self).items()}
        return Condition(**kept)

    def mapped(self, maps: Mapping[str, EditMap], gate: Gate | None = None) -> Condition:
        """With the streams that `maps` names through their maps, in the maps' precision and on their device; behind a
        gate those prompts alone that open it."""
        made: dict[str, Any] = moved({stream: getattr(self, stream) for stream in {*maps, "text"}}, maps, gate)
        return replace(self, **made)

    def to(self, dtype: torch.dtype) -> Condition:
        """The same rows in another dtype; what is no row of a prompt stays as it is."""
        return replace(self, text=self.text.to(dtype), pooled=None if self.pooled is None else self.pooled.to(dtype))


class Denoiser(Protocol):
    """A loaded pipeline, as far as drawing, refining and inspecting it go. Made from a pipeline of diffusers.

    Attributes:
        families: the names, in `editkit.model.families`, of what it draws.
        reads_masks: whether its network is told which rows are padding, so that rows of several lengths go in together.
        reads: the dtype that the network is given its inputs in; None is that of its weights. Where only some of these
            are in half precision, and autocast multiplies, the others must not be fed less than they take.
        placed: where it computes; None is where the pipeline is. Where its encoders wait elsewhere, that is not told.
    """

    families: ClassVar[tuple[str, ...]]
    reads_masks: ClassVar[bool]
    reads: torch.dtype | None
    placed: torch.device | None

    def __init__(self, pipe: Any, /) -> None: ...

    @classmethod
    def check(cls, source: Source, /) -> None:
        """Refuse a model of these families that cannot be drawn, from its configuration alone.

        Raises:
            EditkitError: why, and what to do instead.
        """
        ...

    @classmethod
    def open(cls, source: Source, device: str, placement: Placement, /) -> Denoiser:
        """Load a model as `placement` says."""
        ...

    @property
    def pipe(self) -> Any:
        """The pipeline itself."""
        ...

    @property
    def network(self) -> Any:
        """The module that predicts: its parameters are what edits and gradient stages change."""
        ...

    @property
    def running(self) -> Any:
        """What is called to predict: the network, or what `compile` made of it."""
        ...

    @property
    def scheduler(self) -> Any:
        """The pipeline's own scheduler: its `config` is the model's noise schedule."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def streams(self) -> Mapping[str, TextStream]:
        """Field of `Condition` → the projections that read it."""
        ...

    @property
    def half(self) -> torch.dtype:
        """What float32 weights are multiplied in on a GPU; float32 where weights are multiplied as they are."""
        ...

    def compile(self) -> None:
        """Let `predict` run a compiled network from now on. Its weights stay where they are."""
        ...

    def encode(self, prompts: Sequence[str], negative: str | None = None) -> tuple[list[Condition], Condition | None]:
        """The prompts as the stock pipeline encodes them, a row each, and what guidance leads away from."""
        ...

    def reader(self) -> Denoiser:
        """The same without its network and decoder: it encodes prompts, and no more, wherever these two are."""
        ...

    def blank(self, rows: int) -> Condition:
        """So many prompts without meaning, as long as any that the network reads."""
        ...

    def away(self, sampling: Sampling) -> float | None:
        """How far guidance leads away from the negative prompt; None is a single pass without one."""
        ...

    def guided(self, without: Tensor, with_text: Tensor, scale: float) -> Tensor:
        """What two predictions come to at a scale of guidance, `(rows, channels, h, w)`."""
        ...

    def schedule(self, sampling: Sampling) -> Any:
        """A new scheduler of diffusers with the model's noise schedule, its timesteps set.

        Raises:
            EditkitError: more steps than the model was trained with, or a scheduler that does not suit it.
        """
        ...

    def count_cut(self, prompts: Iterable[str]) -> tuple[int, int]:
        """How many of the prompts are longer than the tokens that its text encoder reads, and how many these are."""
        ...

    def latent_shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """`(channels, h, w)` of the latents of a picture of `size` (height, width) in pixels; None is the size that the
        model was trained for.

        It reads configurations alone.

        Raises:
            EditkitError: the model cannot draw this size.
        """
        ...

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """`size` (height, width), or in place of None the size that the model was trained for, in pixels."""
        ...

    def predict(self, z: Tensor, t: Tensor, condition: Condition, network: Any = None) -> Tensor:
        """ε, v, x₀ or a flow's velocity, as its scheduler reads it, `(rows, channels, h, w)` in the dtype of `z`.

        Args:
            z: noisy latents, `(rows, channels, h, w)`; the network is given them in the dtype of its own weights.
            t: training steps, `(rows,)`.
            network: in place of the pipeline's own.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Clean latents to pixels from -1 to 1, `(rows, 3, height, width)`, in the dtype of the decoder's weights."""
        ...

    def latents_of(self, pixels: Tensor) -> Tensor:
        """Pixels from -1 to 1 to clean latents, the inverse of `decode`."""
        ...

    def copied(self) -> Denoiser:
        """The same pipeline with a network of its own; all else is shared."""
        ...
