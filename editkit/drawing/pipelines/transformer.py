"""What kinds whose network is a transformer have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from editkit.drawing.kept import run_as
from editkit.drawing.pipelines.base import PipelineDenoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling, new_scheduler
from editkit.errors import EditkitError
from editkit.model.apply import family_of_pipeline, network_of
from editkit.model.checkpoints.source import Source


class TransformerDenoiser(PipelineDenoiser):
    """A transformer. Where its family's keys are static, `Condition.text` is what stands behind the modules before
    them: a map acts there, and these modules run once a prompt in place of once a step.

    Attributes:
        pipelines: classes of diffusers, of its families, that draw from a prompt alone.
        patched: channels that the network reads for one of the decoder's: 4 where it reads squares of four latents.
    """

    families: ClassVar[tuple[str, ...]] = ()
    component: ClassVar[str] = "transformer"
    half: torch.dtype = torch.bfloat16  # values of these networks, and of T5, are too large for float16
    pipelines: ClassVar[tuple[str, ...]] = ()
    patched: ClassVar[int] = 1
    reads_masks: ClassVar[bool] = False

    @classmethod
    def check(cls, source: Source, /) -> None:
        name = source.pipeline_class
        if name not in cls.pipelines:
            raise EditkitError(
                f"model {source.name}: is a {name}; of {source.family.title} drawn are {', '.join(cls.pipelines)}; "
                "draw this one with diffusers"
            )
        vae = source.config("vae")
        channels = vae.get("latent_channels", vae.get("z_dim", 4))
        reads = source.config("transformer").get("in_channels", channels * cls.patched)
        if reads != channels * cls.patched:
            raise EditkitError(
                f"model {source.name}: expected one that draws from a prompt alone, but its transformer reads {reads} "
                f"channels where latents have {channels * cls.patched}: it draws over a picture; edit it with `editkit "
                f"erase`, and draw with its export in diffusers ({name})"
            )

    def latent_shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        height, width = size or (self._usual_side, self._usual_side)
        factor = self.pipe.vae_scale_factor
        whole = factor * self._patch
        if any(side < whole or side % whole for side in (height, width)):
            raise EditkitError(
                f"--size: expected multiples of {whole} for this model, at least that, got {width}x{height}"
            )
        shape = (self._channels, height // factor, width // factor)
        most = self._most_patches()
        if any(side // self._patch > most for side in shape[1:]):
            raise EditkitError(
                f"--size: expected at most {most * whole} a side for this model, which has no positions for more, "
                f"got {width}x{height}"
            )
        return shape

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        return size or (self._usual_side, self._usual_side)

    @property
    def _channels(self) -> int:
        """Of the latents as they are drawn."""
        return self.network.config.in_channels // self.patched

    @property
    def _patch(self) -> int:
        """Latents a side that the network reads as one."""
        return 2 if self.patched > 1 else self.network.config.patch_size

    def _most_patches(self) -> float:
        """Patches a side that the network has positions for."""
        return float("inf")

    @property
    def _usual_side(self) -> int:
        """In pixels: what the pipeline's call has as its default, else its own."""
        stated = self._default("height")
        latents = getattr(self.pipe, "default_sample_size", None) or self.network.config.get("sample_size")
        return stated if isinstance(stated, int) else latents * self.pipe.vae_scale_factor

    def _default(self, argument: str) -> Any:
        """What the pipeline's call takes where it is not told."""
        return signature(type(self.pipe).__call__).parameters[argument].default

    def _window(self) -> tuple[Any, int]:
        return self.pipe.tokenizer, self._default("max_sequence_length")

    def _encoded(self, texts: list[str]) -> list[Condition]:
        """One by one: a pipeline may pad to the longest of a batch, and rows may depend on that."""
        return [self._behind(self._prompt(text)) for text in texts]

    def _negative(self, text: str) -> Condition:
        return self._behind(self._unprompt(text))

    def _prompt(self, text: str) -> Condition:
        """One prompt as the pipeline's call encodes it."""
        raise NotImplementedError

    def _unprompt(self, text: str) -> Condition:
        """One negative prompt, likewise."""
        return self._prompt(text)

    def reader(self) -> Any:
        if self._before:
            raise TypeError(f"{type(self).__name__} encodes prompts with a part of its network")
        return super().reader()  # with what it now knows of the network that it lacks

    def _behind(self, condition: Condition) -> Condition:
        text, hook = condition.text, getattr(self.network, "_hf_hook", None)
        if self._before and hook is not None:
            from accelerate.hooks import CpuOffload  # an extra, which made the hook

            if isinstance(hook, CpuOffload):  # it is called in part, which brings nothing of it here
                hook.pre_forward(self.network)
        for name in self._before:
            text = self.network.get_submodule(name)(text)
        return Condition(text, condition.pooled, condition.mask)

    @cached_property
    def _before(self) -> tuple[str, ...]:
        """Modules between the text encoder and the projections that are edited, in their order."""
        if self.network is None:  # of `open_reader`, which opens no model that has such
            return ()
        rules = family_of_pipeline(self.pipe).rules
        before = next((rule.before for rule in rules if rule.stream == "text" and rule.before), None)
        names = [name for name, _ in network_of(self.pipe).named_modules()]
        return tuple(name for name in names if before and re.fullmatch(before, name))

    def blank(self, rows: int) -> Condition:
        made = super().blank(rows)
        return replace(made, mask=torch.ones_like(made.text[..., 0])) if self.reads_masks else made

    def schedule(self, sampling: Sampling) -> Any:
        scheduler = new_scheduler(self.scheduler, sampling)
        scheduler.set_timesteps(**self._timesteps(scheduler, sampling))
        return scheduler

    def _timesteps(self, scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
        """What the pipeline sets its scheduler's timesteps with."""
        return {"num_inference_steps": sampling.steps}

    def predict(self, z: Tensor, t: Tensor, condition: Condition, network: Any = None) -> Tensor:
        network = self.running if network is None else network
        with passed_over(network, self.network, self._before):
            if condition.mask is None or self.reads_masks:
                return super().predict(z, t, condition, network)
            # Counted as numbers: bfloat16 does not tell 257 from 258.
            lengths, out = condition.mask.bool().sum(1), torch.empty_like(z)
            for length in lengths.unique().tolist():
                rows = lengths == length
                some = condition[rows]
                short = Condition(some.text[:, :length], some.pooled, None, some.scale)
                out = out.index_put((rows,), super().predict(z[rows], t[rows], short, network))
            return out


@contextmanager
def passed_over(network: Any, own: Any, names: Sequence[str]) -> Iterator[None]:
    """Modules give back what they are given while the context lasts.

    Args:
        network: what is called: the pipeline's `own`, a copy of it, a wrapper around it, or a function that runs it.
    """
    inner = getattr(network, "module", network)
    inner = inner if isinstance(inner, nn.Module) else own
    modules = [inner.get_submodule(name) for name in names]
    with run_as(modules, lambda forward: _as_it_is):
        yield


def _as_it_is(text: Tensor) -> Tensor:
    return text


def in_a_row(z: Tensor) -> Tensor:
    """Latents `(rows, c, h, w)` as squares of four in a row, `(rows, h/2 · w/2, 4 c)`, as FLUX reads them."""
    return nn.functional.pixel_unshuffle(z, 2).flatten(2).transpose(1, 2)


def in_a_square(row: Tensor, height: int, width: int) -> Tensor:
    """The inverse, for latents of `height` and `width`."""
    square = row.transpose(1, 2).unflatten(2, (height // 2, width // 2))
    return nn.functional.pixel_shuffle(square, 2)


def shifted_times(scheduler: Any, steps: int, mu: float) -> Mapping[str, Any]:
    """What FLUX's pipelines set their timesteps with: of schedulers that make flow levels themselves the number."""
    own = scheduler.config.get("use_flow_sigmas")
    return {"mu": mu, **({"num_inference_steps": steps} if own else {"sigmas": falling(steps)})}


def falling(steps: int) -> list[float]:
    """`1 … 1 / steps`, the levels of noise that most flow pipelines start their schedule from."""
    import numpy

    return numpy.linspace(1.0, 1 / steps, steps)  # pyright: ignore[reportReturnType]


def shift_of(scheduler: Any, length: int, most: float = 1.15) -> float:
    """How far a schedule is moved towards noise for a sequence of that length, as FLUX.1's pipeline does it; `most` is
    the shift at the longest sequence where the scheduler does not say."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    names = {"base_seq_len": "base_image_seq_len", "max_seq_len": "max_image_seq_len"}
    names |= {"base_shift": "base_shift", "max_shift": "max_shift"}
    usual = {"base_seq_len": 256, "max_seq_len": 4096, "base_shift": 0.5, "max_shift": most}
    return calculate_shift(length, **{name: scheduler.config.get(own, usual[name]) for name, own in names.items()})
