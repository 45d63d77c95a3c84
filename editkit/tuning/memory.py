"""How much memory a run will take, before any weight is read: a dry pass on tensors that have shapes and no values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from editkit.drawing.outline import outline
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.hardware import known_device
from editkit.model.checkpoints.source import Source
from editkit.model.memory import CUDA_ITSELF, is_gpu, keep_norms_exact, peak_of
from editkit.model.pipeline import PARTS
from editkit.model.placement import float8_layers
from editkit.tuning.anchor import ANCHORS
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.encoders import AT_ONCE, first_layers
from editkit.tuning.frozen import DTYPES, STORED
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.passes import Passes, attended_by, evenly, rows_at_once
from editkit.tuning.prompts import Prompts
from editkit.tuning.setup import choose_attention, fast_precision, keep_frozen
from editkit.tuning.trainable import check_trainable

FLOAT = 4
LONGEST = 512
"""Tokens that FLUX.1 lets T5 read, whose configuration states none."""


@dataclass(frozen=True)
class Plan:
    """Bytes on the device that trains.

    Attributes:
        device, precision: what it is planned for; a GPU need not be there.
        frozen: what most of the network that is not trained is kept in.
        parts: `weights` (of the network, and on a processor of all that waits there beside it), `teacher`,
            `gradients`, `optimizer`, `anchor`, `prompts` (candidates among them), `activations`: all
            else that a step holds at its peak, weights cast for it among them, and on a GPU `CUDA itself`.
        before: what is there while prompts are encoded, before the network is: encoders, and on a GPU `CUDA itself`.
    """

    device: str
    precision: str
    frozen: str
    parts: Mapping[str, int]
    before: int = 0

    @property
    def total(self) -> int:
        """Bytes at the peak: of a step, or of encoding the prompts."""
        return max(self.before, sum(self.parts.values()))

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in self.parts.items() if size)
        total = f"planned memory on {self.device}, {self.precision}: {self.total / 2**30:.2f} GiB ({parts})"
        first = f"; {self.before / 2**30:.2f} GiB before, to encode prompts" if self.before else ""
        return f"{total}; frozen weights of the network in {self.frozen}{first}"


def plan_memory(
    source: Source, options: RefineOptions, device: str, concepts: int = 1, processes: int = 1, learned: int = 0
) -> Plan:
    """The plan for one process of `processes`, found without reading a weight; it needs some seconds.

    The passes of a step are run on fake tensors: those with gradients, those of the search, and the largest without.
    The bank, some megabytes, is left out.

    Args:
        device: `cpu` or `cuda`.
        concepts: how many are erased: the latents of all are drawn together.
        learned: rows at a time of which a token is learned, before or between. Then there is but one network, yet both
            are counted.
    """
    check_trainable(source)
    known_device(device)
    if options.loss.on_states:
        return _plan_encoders(source, device)
    concepts = 1 if options.loss.apart else concepts
    parameters = Parameters.parse(options.param)
    precision = options.mixed_precision or fast_precision(not is_gpu(device))
    denoiser = outline(source, torch.device("meta"))
    network, networks = denoiser.network, _networks(source, denoiser, options, parameters, device, precision)
    modules = {name: part for name in PARTS if (part := getattr(denoiser.pipe, name, None)) is not None}
    waiting = {  # counted while tied weights are tied
        name: FLOAT * sum(weight.numel() for weight in part.parameters())
        for name, part in modules.items()
        if part is not network
    }
    with FakeTensorMode():
        for each in networks.both if is_gpu(device) else ():
            keep_norms_exact(each)
        _make_fake([*modules.values(), *networks.both])
        held = sum(map(bytes_of, network.parameters()))
        teacher = sum(map(bytes_of, networks.both[1].parameters())) if parameters.rank is None else 0
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        prompt = denoiser.blank(1)
        trained += concepts * options.key_tokens * prompt.text.shape[-1] if options.loss.has_key else 0
        numbers = prompt.text.numel() + (0 if prompt.pooled is None else prompt.pooled.numel())
        passes = step_passes(denoiser, networks, options, concepts, processes, learned)
        peak = max(peak_of(planned) for planned in passes)
    parts = {
        "weights": held + (0 if is_gpu(device) else sum(waiting.values())),
        "teacher": teacher,
        "gradients": FLOAT * trained * (1 if processes == 1 else 2),  # the processes exchange a copy
        "optimizer": 2 * FLOAT * trained,
        "anchor": FLOAT * trained * ANCHORS.index(options.anchor),  # where it began, and how much each matters
        "prompts": FLOAT * numbers * (2 + concepts * _prompts_of_one(source, options)),
        "activations": max(0, peak - FLOAT * trained),
        "CUDA itself": CUDA_ITSELF if is_gpu(device) else 0,
    }
    frozen = STORED if options.storage is not None else DTYPES.get(precision, torch.float32)
    encoders = sum(size for component, size in waiting.items() if component.startswith("text_encoder"))
    before = encoders + CUDA_ITSELF if is_gpu(device) else 0
    return Plan(device, precision, str(frozen).removeprefix("torch."), parts, before)


def _plan_encoders(source: Source, device: str) -> Plan:
    """Of a run that trains text encoders, of which nothing else of the model is loaded."""
    denoiser = outline(source, torch.device("meta"), parts=[name for name in PARTS if "encoder" in name])
    encoders = [
        part for name in PARTS if "encoder" in name and (part := getattr(denoiser.pipe, name, None)) is not None
    ]
    with FakeTensorMode():
        _make_fake(encoders)
        weights = [weight for encoder in encoders for weight in encoder.parameters()]
        trained = sum(weight.numel() for weight in first_layers(denoiser.pipe).values())
        peak = max(peak_of(partial(_read_and_trace, encoder)) for encoder in encoders)
    parts = {
        "weights": sum(map(bytes_of, {id(weight): weight for weight in weights}.values())),
        "gradients": FLOAT * trained,
        "optimizer": 2 * FLOAT * trained,
        "activations": max(0, peak - FLOAT * trained),
        "CUDA itself": CUDA_ITSELF if is_gpu(device) else 0,
    }
    return Plan(device, "no", "float32", parts)


def _read_and_trace(encoder: nn.Module) -> None:
    """A pass of the longest prompts with gradients."""
    config: Any = encoder.config
    positions = getattr(config, "max_position_embeddings", LONGEST)
    ids = torch.zeros(AT_ONCE, positions, dtype=torch.long)
    encoder(input_ids=ids, output_hidden_states=True).last_hidden_state.sum().backward()


def bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _networks(
    source: Source, denoiser: Denoiser, options: RefineOptions, parameters: Parameters, device: str, precision: str
) -> Denoisers:
    network = denoiser.network
    if not is_gpu(device):
        choose_attention(network)
    dtype = DTYPES.get(precision)
    autocast = partial(torch.autocast, "cpu", dtype, enabled=dtype is not None)
    networks = Denoisers(network, denoiser.predict, autocast, reads_masks=denoiser.reads_masks)
    with torch.device("meta"):
        if parameters.rank is None:
            networks.keep_teacher()
        network.requires_grad_(False)
        stored = float8_layers(denoiser.pipe) if options.storage is not None else []
        if options.loss.weights:
            choose(network, parameters, source.family)
        keep_frozen(networks, dtype, stored)
    denoiser.reads = torch.float32
    if options.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    return networks


def _make_fake(modules: Iterable[nn.Module]) -> None:
    """Give modules fake weights: on "meta" autocast would do nothing, and attention keep its matrices.

    They are a processor's, also where a GPU is planned for, which need not be there.
    """
    for part in (part for module in modules for part in module.modules()):
        for name, weight in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype), weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def step_passes(
    denoiser: Denoiser,
    networks: Denoisers,
    options: RefineOptions,
    concepts: int = 1,
    processes: int = 1,
    learned: int = 0,
) -> list[Callable[[], None]]:
    """The passes of a step that may be its largest: with gradients, without, those of the search, and of learning."""
    micro, passes = options.micro(processes), _passes(denoiser, networks, options, concepts)
    searched = bool(options.loss.search_reads)

    def points(rows: int) -> Points:
        shape = rows, *denoiser.latent_shape(options.pixels)
        number = torch.zeros(rows, dtype=torch.long)
        mask = torch.randn(rows, 1, *shape[2:]) if options.loss.reads_attention == "object" else None
        n, e, o, s = (torch.randn(shape) for _ in range(4))
        return Points(torch.randn(shape), number, number, number, n, e, mask, o, s)

    def train() -> None:
        candidate = denoiser.blank(micro) if searched else None
        passes.terms(points(micro), candidate).loss(options.lamb).sum().backward()

    def search() -> None:
        candidate = denoiser.blank(micro)
        candidate = replace(candidate, text=candidate.text.requires_grad_())
        torch.autograd.grad(passes.score(points(micro), candidate).sum(), candidate.text)

    @torch.no_grad()
    def look() -> None:
        most = rows_at_once(*denoiser.latent_shape(options.pixels)[1:])
        rows = min(most, options.trajectories * concepts * options.sampling_steps)
        seen = points(rows)
        networks.teacher(seen.z, seen.t, denoiser.blank(rows))

    def learn() -> None:
        read, seen = denoiser.blank(learned), points(learned)
        read = replace(read, text=read.text.requires_grad_())
        torch.autograd.grad(networks.student(seen.z, seen.t, read).sum(), read.text)

    more = [search] if searched and options.finds.ascends else []
    return [train, look, *more, *([learn] if learned else [])]


def _passes(denoiser: Denoiser, networks: Denoisers, options: RefineOptions, concepts: int) -> Passes:
    """The passes of a step on prompts without meaning. No candidate is among them."""
    known = denoiser.blank(2 * concepts)
    erased, width = torch.arange(concepts)[:, None], known.text.shape[-1]
    places = torch.ones(concepts, 1, known.text.shape[1], dtype=torch.bool)
    prompts = Prompts(known, erased, erased + concepts, erased[:, None, :0], (), known[:1], None, places)
    attends = attended_by(options.loss, denoiser)
    rows = nn.Parameter(torch.randn(concepts, options.key_tokens, width))
    key = KeyRows(rows, torch.randn(concepts, width), options.rho) if options.loss.has_key else None
    return Passes(options.loss, networks, prompts, options.lamb, options.eta, evenly, key, attends)


def _prompts_of_one(source: Source, options: RefineOptions) -> int:
    """Prompts that a concept adds: itself, its guide and its candidates, in every template."""
    candidates = options.k if options.searches_words else 0
    return (2 + candidates) * len(source.profile.refine.templates)
