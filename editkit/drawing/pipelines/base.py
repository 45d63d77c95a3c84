"""What all kinds have in common: a pipeline of diffusers, one of whose modules predicts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling, scheduler_for
from editkit.drawing.trajectory import classifier_free
from editkit.edits.variant import TextStream
from editkit.model.apply import network_of, projection_names
from editkit.model.checkpoints.source import Source
from editkit.model.pipeline import load
from editkit.model.placement import Placement
from editkit.model.prompts import written
from editkit.model.quiet import errors_only


class PipelineDenoiser:
    """A pipeline of diffusers, to draw with; a kind adds what is its own.

    Attributes:
        component: which of the pipeline's modules predicts.
        half: what float32 weights are multiplied in on a GPU; float32 where weights are multiplied as they are.
        reads: the dtype that the network is given its inputs in; None is that of its weights.
        placed: where it computes; None is where the pipeline is.
        reads_masks: whether the network is told which rows are padding. Else rows of other lengths go in apart.
        decodes_singly: at the sizes that people draw, the decoder takes more memory than the network.
        shifted: whether the pipeline moves latents by the decoder's shift. Some leave it out, whatever it is.
    """

    component: ClassVar[str] = "unet"
    half: torch.dtype = torch.float16
    reads: torch.dtype | None = None
    placed: torch.device | None = None
    reads_masks: ClassVar[bool] = True
    decodes_singly: ClassVar[bool] = True
    shifted: ClassVar[bool] = False

    def __init__(self, pipe: Any, /) -> None:
        self.pipe = pipe
        self._compiled: Any = None
        if self.network is not None and self.network.dtype != torch.float32:
            self.half = torch.float32

    @classmethod
    def open(cls, source: Source, device: str, placement: Placement, /) -> PipelineDenoiser:
        made = cls(load(source, device, **vars(placement)))
        if placement.dtype is not None:
            made.half = torch.float32
        return made

    @property
    def network(self) -> Any:
        return getattr(self.pipe, self.component)

    @property
    def running(self) -> Any:
        """What is called to predict: the network, or what `compile` made of it."""
        return self.network if self._compiled is None else self._compiled

    def compile(self) -> None:
        if self._compiled is None:
            self._compiled = torch.compile(self.network)

    @property
    def scheduler(self) -> Any:
        return self.pipe.scheduler

    @property
    def device(self) -> torch.device:
        return self.placed or self.pipe._execution_device  # where it computes, wherever its weights wait

    @cached_property
    def streams(self) -> Mapping[str, TextStream]:
        found = projection_names(self.pipe)
        return {stream: TextStream(names, self._width(stream, names)) for stream, names in found.items()}

    def _width(self, stream: str, names: Sequence[str]) -> int:
        """Columns of a stream: what the first of its projections reads."""
        weights = network_of(self.pipe).named_parameters()
        return next(int(weight.shape[1]) for own, weight in weights if own.replace(".base_layer.", ".") == names[0])

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: str | None = None) -> tuple[list[Condition], Condition | None]:
        with errors_only():  # who draws is told of cut prompts once, by `editkit.drawing.truncation`
            unique = list(dict.fromkeys(prompts))
            known = dict(zip(unique, self._encoded(unique), strict=True))
            away = None if negative is None else self._negative(negative)
        return [known[prompt] for prompt in prompts], away

    def encode_with_gradients(self, prompts: Sequence[str]) -> list[Condition]:
        """The same rows, differentiable in what stands at the input of the text encoders."""
        with errors_only():
            return self._encoded(list(prompts))

    def reader(self) -> Any:
        made, made_of = copy.copy(self), copy.copy(self.pipe)
        for name, part in self.pipe.components.items():
            if isinstance(part, nn.Module) and not name.startswith("text_encoder"):
                setattr(made_of, name, None)
        made.pipe, made.placed = made_of, None
        return made

    def _encoded(self, texts: list[str]) -> list[Condition]:
        """A row each, as the stock pipeline encodes prompts."""
        raise NotImplementedError

    def _negative(self, text: str) -> Condition:
        """What guidance leads away from, as the stock pipeline encodes it."""
        return self._encoded([text])[0]

    def blank(self, rows: int) -> Condition:
        made = {
            name: torch.zeros(rows, *([self._longest()] if name == "text" else []), stream.width, device=self.device)
            for name, stream in self.streams.items()
        }
        return Condition(made["text"], made.get("pooled"))

    def _longest(self) -> int:
        """Rows of the longest prompt that the network reads."""
        return self._window()[1]

    def away(self, sampling: Sampling) -> float | None:
        return sampling.guidance if sampling.guidance > 1 else None

    def guided(self, without: Tensor, with_text: Tensor, scale: float) -> Tensor:
        return classifier_free(without, with_text, scale)

    def schedule(self, sampling: Sampling) -> Any:
        return scheduler_for(self.scheduler, sampling)

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        height, width = (side * self.pipe.vae_scale_factor for side in self.latent_shape(size)[1:])
        return size or (height, width)

    def latent_shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        raise NotImplementedError

    def _window(self) -> tuple[Any, int]:
        """The tokenizer that makes most of the prompt, and how many tokens of it are read."""
        return self.pipe.tokenizer, self.pipe.tokenizer.model_max_length

    def count_cut(self, prompts: Iterable[str]) -> tuple[int, int]:
        tokenizer, most = self._window()
        whole = tokenizer(written(self.pipe, list(prompts)), truncation=False, verbose=False).input_ids
        return sum(len(ids) > most for ids in whole), most

    def predict(self, z: Tensor, t: Tensor, condition: Condition, network: Any = None) -> Tensor:
        # In a network's own dtype, as stock pipelines call it; latents themselves and guidance stay in theirs.
        network, dtype = self.running if network is None else network, self.reads or self.network.dtype
        return self._said(network, z.to(dtype), t, condition.to(dtype)).to(z.dtype)

    def _said(self, network: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`predict` of rows that the network can read in one batch."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        shift, scale = self._shift_and_scale(z)
        latents = z / scale + shift
        latents = latents.to(self.pipe.vae.dtype)
        made = torch.cat([self._decoded(some) for some in (latents.split(1) if self.decodes_singly else [latents])])
        self.pipe.maybe_free_model_hooks()  # a decoder that is offloaded would stay for the next batch
        return made

    def latents_of(self, pixels: Tensor) -> Tensor:
        coded = self._coded(pixels.to(self.device, self.pipe.vae.dtype)).float()
        shift, scale = self._shift_and_scale(coded)
        return (coded - shift) * scale

    def _decoded(self, z: Tensor) -> Tensor:
        """What the decoder reads, `(rows, channels, h, w)`, to pixels."""
        return self.pipe.vae.decode(z).sample

    def _coded(self, pixels: Tensor) -> Tensor:
        """Pixels as the encoder makes latents of them."""
        return self.pipe.vae.encode(pixels).latent_dist.mode()

    def _shift_and_scale(self, z: Tensor) -> tuple[Any, Any]:
        """`latents = (coded - shift) * scale`: numbers, or one of each channel, `(1, channels, 1, 1)`."""
        config = self.pipe.vae.config
        return config.shift_factor if self.shifted else 0.0, config.scaling_factor

    def copied(self) -> Any:
        pipe = copy.copy(self.pipe)
        setattr(pipe, self.component, copy.deepcopy(self.network))
        made = type(self)(pipe)
        made.half, made.reads = self.half, self.reads
        return made
