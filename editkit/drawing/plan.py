"""How much memory drawing will take, before any weight is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Unpack
from warnings import catch_warnings, simplefilter

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard
from editkit.drawing.outline import outline
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import at_once, fast, prompts_kept
from editkit.drawing.sampling import Sampling, Settings
from editkit.errors import EditkitError
from editkit.hardware import known_device
from editkit.model.checkpoints.source import Source, find
from editkit.model.memory import CUDA_ITSELF, GIB, is_gpu, keep_norms_exact, peak_of, told
from editkit.model.pipeline import PARTS
from editkit.model.placement import FP8, float8_layers
from editkit.model.quantize import check_quantizable, quantized_bytes, quantized_layers


@dataclass(frozen=True)
class Part:
    """Bytes of one component on the device that draws.

    Attributes:
        weights: of all of it.
        largest: of those of its layers that has most, as they are multiplied.
        activations: all else that it holds at its peak: what goes in, what comes out, weights cast for it.
    """

    name: str
    weights: int
    largest: int
    activations: int


@dataclass(frozen=True)
class DrawingPlan:
    """The planned peak of drawing one batch.

    Attributes:
        device: what it is planned for; a GPU need not be there.
        sampling: what is drawn with; `batch` is how many pictures at once.
        size: height and width of a picture.
        parts: the components that have weights, in the order of the pipeline.
        itself: what a process takes on a GPU before its first tensor.
    """

    device: str
    sampling: Sampling
    size: tuple[int, int]
    parts: tuple[Part, ...]
    itself: int

    @property
    def total(self) -> int:
        """Bytes at the peak. Offloaded components are there one at a time; offloaded layers, too."""
        if self.sampling.offload == "none":
            return self.itself + sum(part.weights for part in self.parts) + max(part.activations for part in self.parts)
        there = "weights" if self.sampling.offload == "model" else "largest"
        return self.itself + max(getattr(part, there) + part.activations for part in self.parts)

    def __str__(self) -> str:
        how = [self.sampling.placement.dtype or "float32"]
        how += [] if self.sampling.storage is None else [f"storage {self.sampling.storage}"]
        how += [] if self.sampling.quantize is None else [f"quantize {self.sampling.quantize}"]
        how += [] if self.sampling.offload == "none" else [f"offload {self.sampling.offload}"]
        pictures = "1 picture" if self.sampling.batch == 1 else f"{self.sampling.batch} pictures"
        head = (
            f"planned peak on {self.device}, {', '.join(how)}, {pictures} of {self.size[1]}x{self.size[0]}: "
            f"{self.total / GIB:.2f} GiB"
        )
        parts = {}
        for part in self.parts:
            layer = f", largest layer {part.largest / GIB:.2f}" if self.sampling.offload == "sequential" else ""
            held = f"weights {part.weights / GIB:6.2f}{layer}"
            parts[part.name] = f"{held}, activations {part.activations / GIB:6.2f}"
        return told(head, parts, self.itself)


def plan_drawing(
    model: str | os.PathLike[str] | Source | None = None,
    device: str | None = None,
    pictures: int | None = None,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> DrawingPlan:
    """The planned memory of drawing, from the model's configurations alone; it needs some seconds.

    Encoders, network and decoder are run on tensors without values. An edit's own maps, and originals of swapped
    weights, are left out.

    Args:
        model: as `open_model` takes it.
        device: `cpu` or `cuda`, which need not be there; default: a GPU if there is one.
        pictures: how many there are to draw: a batch may be smaller for it.
        profile: what the model brings along, or a file that says it.
        settings: of `editkit.drawing.sampling.Settings`.

    Raises:
        EditkitError: the model cannot be drawn, or lacks a configuration.

    >>> plan_drawing("emoji", "cpu", 1, batch=8).sampling.batch
    1
    """
    source = find(model, profile=profile)
    sampling = Sampling.for_model(source, **settings)
    where = device or Shard.from_environment().device()
    known_device(where)
    sampling.placement.check(where)
    return _plan(source, where, sampling, pictures)


def _plan(source: Source, device: str, sampling: Sampling, pictures: int | None) -> DrawingPlan:
    try:
        with catch_warnings():
            simplefilter("ignore")  # kernels of a processor warn of mixed dtypes that a GPU's take
            return _counted(source, device, sampling, pictures)
    except DataDependentOutputException as error:
        raise EditkitError(
            f"--plan: {source.family.title} reads values of its tensors while it draws, and so cannot be planned for "
            "without them; draw one picture with --batch 1 and look"
        ) from error


def _counted(source: Source, device: str, sampling: Sampling, pictures: int | None) -> DrawingPlan:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    denoiser = outline(source, fake, sampling.placement)
    pipe, network = denoiser.pipe, denoiser.network
    batch = at_once(denoiser, sampling)
    batch = batch if pictures is None else max(1, min(batch, pictures))
    sampling = replace(sampling, batch=batch)
    if sampling.tile_vae:
        pipe.vae.enable_tiling()
    channels, height, width = denoiser.latent_shape(sampling.size)
    shape, asked = (batch, channels, height, width), 1
    if source.family.component == "unet":  # its prompts are encoded together, what guidance leads away from among them
        asked += batch
    encoders = (name for name in PARTS if name.startswith("text") and getattr(pipe, name, None) is not None)
    passes = {name: _encoding(getattr(pipe, name), denoiser, asked) for name in encoders}
    passes[source.family.component] = lambda: two_steps(denoiser, shape, sampling)
    passes["vae"] = lambda: denoiser.decode(torch.randn(shape))
    stored: dict[int, int] = {}
    if sampling.storage == FP8:
        stored = {id(each): each.numel() for layer in float8_layers(pipe) for each in layer.parameters(recurse=False)}
    elif sampling.quantize is not None:
        check_quantizable(source, sampling.quantize)
        stored = {id(layer.weight): quantized_bytes(layer) for layer in quantized_layers(network, source.family)}
    parts = []
    with fake, Lengths(denoiser.blank(1).text.shape[1]), torch.no_grad(), _cast(denoiser, device):
        for name, run in passes.items():
            part = getattr(pipe, name)
            held, largest, cast = weight_bytes(part, stored)
            parts.append(Part(name, held, largest, peak_of(run) + cast))  # one layer at a time
        pixels = denoiser.decode(torch.randn(1, *shape[1:]))
    itself = CUDA_ITSELF if is_gpu(device) else 0
    return DrawingPlan(device, sampling, (pixels.shape[-2], pixels.shape[-1]), tuple(parts), itself)


class Lengths(TorchDispatchMode):
    """What a network reads of the values of its masks while it is entered: that every prompt has `tokens` rows."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and not args[0].is_floating_point():
            return self.tokens
        return func(*args, **(kwargs or {}))


def weight_bytes(module: nn.Module, stored: Mapping[int, int]) -> tuple[int, int, int]:
    """Bytes of the weights of a module; of its largest layer as it is multiplied; and of the largest that is cast for
    that.

    Args:
        stored: of weights that lie in fewer bytes than they are multiplied in, by `id`.
    """
    held = sum(stored.get(id(each), each.numel() * each.element_size()) for each in module.parameters())
    whole, cast = [0], [0]
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        whole.append(sum(each.numel() * each.element_size() for each in own))
        cast.append(sum(each.numel() * each.element_size() for each in own if id(each) in stored))
    return held, max(whole), max(cast)


def _encoding(encoder: Any, denoiser: Denoiser, rows: int) -> Callable[[], Any]:
    """So many prompts, as long as may be."""
    longest = denoiser.blank(1).text.shape[1]
    tokens = min(longest, getattr(encoder.config, "max_position_embeddings", longest))
    return lambda: encoder(torch.zeros(rows, tokens, dtype=torch.long))


def two_steps(denoiser: Denoiser, shape: tuple[int, ...], sampling: Sampling) -> None:
    """The first steps of a batch of latents: with guidance, both predictions in one pass; at the second, keys and
    values of the prompts are there from the first."""
    rows = shape[0] * (1 if denoiser.away(sampling) is None else 2)
    z, condition = torch.randn(rows, *shape[1:]), denoiser.blank(rows).to(denoiser.network.dtype)
    with prompts_kept(denoiser, sampling):
        for t in (900.0, 500.0):
            denoiser.predict(z, torch.full((rows,), t), condition)


def _cast(denoiser: Denoiser, device: str) -> AbstractContextManager[Any]:
    """What is cast while it draws. The tensors are a processor's, also where a GPU is planned for."""
    if not is_gpu(device):
        return fast(torch.device("cpu"), denoiser.half)
    halved = denoiser.half != torch.float32
    if halved:
        keep_norms_exact(denoiser.network)
    return torch.autocast("cpu", denoiser.half if halved else torch.bfloat16, enabled=halved)
