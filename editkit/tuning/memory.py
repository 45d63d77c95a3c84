"""How much memory a run will take, before any weight is read: a dry pass on tensors that have shapes and no values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.memory import CUDA_ITSELF, is_gpu, peak_of
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.passes import TEACHER_ROWS, Passes, evenly
from editkit.tuning.prompts import Prompts
from editkit.tuning.setup import choose_attention, fast_precision
from editkit.tuning.trainable import check_trainable

FLOAT = 4


@dataclass(frozen=True)
class Plan:
    """Bytes on the device that trains.

    Attributes:
        device, precision: what it is planned for; a GPU need not be there.
        parts: `weights` (of the whole pipeline), `teacher`, `gradients`, `optimizer`, `activations`: all else that a
            step holds at its peak, weights cast for it among them, and on a GPU `CUDA itself`.
    """

    device: str
    precision: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in self.parts.items() if size)
        return f"planned memory on {self.device}, {self.precision}: {self.total / 2**30:.2f} GiB ({parts})"


def plan_memory(source: Source, options: RefineOptions, device: str, concepts: int = 1, processes: int = 1) -> Plan:
    """The plan for one process of `processes`, found without reading a weight; it needs some seconds.

    The passes of a step are run on fake tensors: those with gradients, those of the search, and the largest without.
    Candidates and bank, a few megabytes, are left out.

    Args:
        device: `cpu` or `cuda`.
        concepts: how many are erased: the latents of all are drawn together.
    """
    check_trainable(source)
    parameters = Parameters.parse(options.param)
    precision = options.mixed_precision or fast_precision(not is_gpu(device))
    with torch.device("meta"):
        unet, networks = _networks(source, options, parameters, device, precision)
    with FakeTensorMode():
        _make_fake(networks, is_gpu(device))
        size = sum(weight.numel() for weight in unet.parameters())
        trained = sum(weight.numel() for weight in unet.parameters() if weight.requires_grad)
        trained += concepts * options.key_tokens * unet.config.cross_attention_dim if options.loss.has_key else 0
        peak = max(peak_of(planned) for planned in step_passes(source, networks, options, concepts, processes))
    parts = {
        "weights": FLOAT * (size + numbers_of(source, "text_encoder") + numbers_of(source, "vae")),
        "teacher": 0 if parameters.rank is not None else FLOAT * size,
        "gradients": FLOAT * trained * (1 if processes == 1 else 2),  # the processes exchange a copy
        "optimizer": 2 * FLOAT * trained,
        "activations": max(0, peak - FLOAT * trained),
        "CUDA itself": CUDA_ITSELF if is_gpu(device) else 0,
    }
    return Plan(device, precision, parts)


def _networks(
    source: Source, options: RefineOptions, parameters: Parameters, device: str, precision: str
) -> tuple[Any, Denoisers]:
    from diffusers import UNet2DConditionModel

    config = source.config("unet")
    if not config:
        raise EditkitError(f"model {source.name}: expected a unet with a config.json, found none")
    unet: Any = UNet2DConditionModel.from_config(config)
    if not is_gpu(device):
        choose_attention(unet)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    networks = Denoisers(unet, lambda: torch.autocast("cpu", dtype, enabled=dtype is not None))
    if parameters.rank is None:
        networks.keep_teacher()
    unet.requires_grad_(False)
    if options.loss.weights:
        choose(unet, parameters)
    if options.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet, networks


def _make_fake(networks: Denoisers, gpu: bool) -> None:
    """Give the networks fake weights: on "meta" autocast would do nothing, and attention keep its matrices.

    They are a processor's, also where a GPU is planned for, which need not be there. Only there autocast leaves norms
    in float32.
    """
    for module in (part for network in networks.both for part in network.modules()):
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(weight.shape), weight.requires_grad))
        if gpu and isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda module, given: tuple(tensor.float() for tensor in given))


def step_passes(
    source: Source, networks: Denoisers, options: RefineOptions, concepts: int = 1, processes: int = 1
) -> list[Callable[[], None]]:
    """The passes of a step that may be its largest: with gradients, without, and those of the search."""
    config, micro = networks.network.config, options.micro(processes)
    tokens, width = source.config("text_encoder").get("max_position_embeddings", 77), config.cross_attention_dim
    passes = _passes(networks, options, concepts, (tokens, width))
    searched = bool(options.loss.search_reads)

    def points(rows: int) -> Points:
        shape = rows, config.in_channels, config.sample_size, config.sample_size
        number = torch.zeros(rows, dtype=torch.long)
        return Points(torch.randn(shape), number, number, number, torch.randn(shape), torch.randn(shape))

    def train() -> None:
        text = torch.randn(micro, tokens, width) if searched else None
        passes.terms(points(micro), text).loss(options.lamb).sum().backward()

    def search() -> None:
        text = torch.randn(micro, tokens, width, requires_grad=True)
        torch.autograd.grad(passes.score(points(micro), text).sum(), text)

    @torch.no_grad()
    def look() -> None:
        rows = min(TEACHER_ROWS, options.trajectories * concepts * options.sampling_steps)
        seen = points(rows)
        networks.teacher(seen.z, seen.t, torch.randn(rows, tokens, width))

    return [train, look, search] if searched and options.finds.ascends else [train, look]


def _passes(networks: Denoisers, options: RefineOptions, concepts: int, prompt: tuple[int, int]) -> Passes:
    """The passes of a step on prompts without meaning, `prompt` their tokens and width. No candidate is among them."""
    erased, width = torch.randn(concepts, 1, *prompt), prompt[1]
    prompts = Prompts(erased, torch.randn(concepts, 1, *prompt), torch.randn(1, *prompt), erased[:, None, :0], ())
    rows = nn.Parameter(torch.randn(concepts, options.key_tokens, width))
    key = KeyRows(rows, torch.randn(concepts, width), options.rho) if options.loss.has_key else None
    return Passes(options.loss, networks, prompts, options.lamb, options.eta, evenly, key)


def numbers_of(source: Source, component: str) -> int:
    """How many numbers the weights of a component are, from their headers."""
    if source.is_single_file:
        return sum(map(math.prod, source.stated.held(component).values()))
    count = 0
    for path in source.weights(component):
        with safe_open(path, framework="np") as opened:
            count += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.offset_keys())
    return count
