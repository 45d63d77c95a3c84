"""Put a run together: networks, prompts, latents, search, optimizer."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampling import Sampling, plain_scheduler
from editkit.edits.variant import Variant
from editkit.embeddings.learned import teach
from editkit.errors import EditkitError
from editkit.hardware import has_fast_bfloat16
from editkit.model.apply import apply_edit
from editkit.model.editable import EditableModel
from editkit.model.families.family import Family
from editkit.model.placement import float8_layers
from editkit.tuning.anchored import anchored
from editkit.tuning.asked import encoded
from editkit.tuning.batches import Batches
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.descent import Descent
from editkit.tuning.frozen import DTYPES, keep_as_multiplied, keep_in_float8
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Sampler
from editkit.tuning.masks import given_points
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.passes import Passes, as_pictures, attended_by, evenly
from editkit.tuning.processes import Processes, told_to_shard, whole
from editkit.tuning.prompts import Prompts
from editkit.tuning.request import StageRequest
from editkit.tuning.result import lora_factors
from editkit.tuning.search.request import Finder, Ground, Projections
from editkit.tuning.trainer import Trainer

SMALL = 16
"""Side of the latents up to which attention may keep its matrices."""
DEVICE_OF_ACCELERATE = "ACCELERATE_TORCH_DEVICE"
KEY = "key"
"""What the rows of a key are called among the trained tensors."""


@dataclass(frozen=True)
class Setup:
    """A trainer, the denoiser that it trains, and the accelerator that it runs on."""

    trainer: Trainer
    denoiser: Denoiser
    accelerator: Any


def prepare(request: StageRequest, folder: Path, key: KeyRows | None = None, edit: Variant | None = None) -> Setup:
    """Everything a run needs, before its first step.

    Args:
        folder: for a tracker.
        key: trained with the student, at a rate of its own.
        edit: of the same concepts, for a search that ranks by it.
    """
    model, options = request.model, request.options
    torch.manual_seed(options.seed)  # a LoRA's first values
    accelerator = _accelerator(options, request.device, request.tracker, folder)
    processes = Processes(accelerator)
    processes.check()
    if processes.sharded:
        _check_sharded(request, options)
    _check_batch(options, processes)
    denoiser = open_denoiser(model.source)  # where there is room for float32 of all that stays frozen
    teach(denoiser.pipe, request.shown.tokens)
    for part in denoiser.pipe.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
    networks, weights = _networks(denoiser, model.source.family, request.start, options, accelerator)
    prompts = encoded(denoiser, request, accelerator.device)
    moved = networks.both[1:] if processes.sharded else networks.both  # FSDP moves the student, a block at a time
    for network in moved:
        network.to(accelerator.device)
    denoiser.placed = accelerator.device
    finder = _begun(model, denoiser, edit, prompts, options) if options.loss.search_reads else None
    descent = _descent(networks, weights, key, options, processes)
    sampler = Sampler(networks, denoiser, _sampling(denoiser, options), options.timesteps)
    if options.anchor != "none":
        weights = {name: weight for name, weight in descent.weights.items() if name != KEY}
        descent.anchor = anchored(weights, sampler, prompts, options)
    weigh = as_pictures(sampler.scheduler) if options.recipe == "authors" else evenly
    attends = attended_by(options.loss, denoiser)
    passes = Passes(options.loss, networks, prompts, options.lamb, options.eta, weigh, descent.key, attends)
    with beside(denoiser):
        given = given_points(denoiser, request.pictures, prompts.templates, options.pixels)
    batches = Batches(options, passes, sampler, processes, given, request.shares)
    return Setup(Trainer(options, passes, batches, descent, processes, finder), denoiser, accelerator)


def _check_sharded(request: StageRequest, options: RefineOptions) -> None:
    """Refuse what needs whole weights in one process, and what would not run the student equally often in all.

    Raises:
        EditkitError: a key, previews, trajectories of many lengths, float8, or a LoRA on an edit.
    """
    if options.loss.has_key:
        raise EditkitError(f"--objective {options.objective}: trains no key under FSDP; leave FSDP out")
    if not (options.bank or options.loss.on_pictures):
        raise EditkitError("--no-bank: trajectories must have one length under FSDP; leave it out")
    if options.preview_every:
        raise EditkitError("--preview-every: needs whole weights, which no process has under FSDP; leave it out")
    if options.storage is not None:
        raise EditkitError(f"--storage {options.storage}: is not available under FSDP; leave one of the two out")
    if options.anchor == "fisher":
        raise EditkitError("--anchor fisher: is not available under FSDP; use --anchor l2")
    if request.start is not None and Parameters.parse(options.param).rank is not None:
        raise EditkitError("--param lora: cannot start from an edit under FSDP; start from the unedited model")


@contextmanager
def beside(denoiser: Denoiser) -> Iterator[None]:
    """Encoders and decoder lie in the processor's memory while a network is trained; here they are with it."""
    parts = [part for part in denoiser.pipe.components.values() if isinstance(part, nn.Module)]
    waiting = [part for part in parts if part is not denoiser.network]
    for part in waiting:
        part.to(denoiser.device)
    try:
        yield
    finally:
        for part in waiting:
            part.to("cpu")


def _check_batch(options: RefineOptions, processes: Processes) -> None:
    least = processes.count * options.accumulate
    if options.batch % least:
        raise EditkitError(
            f"--batch: {options.batch} cannot be shared by {processes.count} processes with {options.accumulate} parts "
            f"each; expected a multiple of {least}"
        )


def _descent(
    networks: Denoisers,
    weights: Mapping[str, Tensor],
    key: KeyRows | None,
    options: RefineOptions,
    processes: Processes,
) -> Descent:
    """Adam on the weights and the key; the student is wrapped for several processes."""
    accelerator = processes.accelerator
    groups: list[dict[str, Any]] = [{"params": list(weights.values())}] if weights else []
    if key is not None:
        key = key.to(accelerator.device)
        if processes.count > 1:  # each has drawn rows of its own
            torch.distributed.broadcast(key.rows.data, 0)
        groups.append({"params": [key.rows], "lr": options.key_rate})
        weights = {**weights, KEY: key.rows}
    if processes.sharded:
        networks.network.to(memory_format=torch.contiguous_format)  # the order of channels cannot be shared out
        accelerator.state.fsdp_plugin.mixed_precision_policy = None  # autocast rounds, and leaves norms in float32
    networks.trained, optimizer = accelerator.prepare(networks.network, torch.optim.Adam(groups, options.rate))
    if processes.sharded:  # whose weights are other tensors now
        own = dict(networks.network.named_parameters())
        weights = {name: own.get(name, weight) for name, weight in weights.items()}
    return Descent(weights, optimizer, processes, key)


def _accelerator(options: RefineOptions, device: str | None, tracker: str | None, folder: Path) -> Any:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise EditkitError("refine: needs accelerate and peft; pip install 'editkit[refine]'") from error
    told_to_shard()  # accelerate explains nothing
    shard = Shard.from_environment()
    where = device or shard.device()
    on_cpu = torch.device(where).type == "cpu"
    precision = options.mixed_precision or fast_precision(on_cpu)
    if on_cpu and precision == "fp16":
        raise EditkitError("--mixed-precision fp16: needs a GPU; use bf16 or no")
    with nullcontext() if shard.count > 1 else _accelerate_on(where):
        return Accelerator(cpu=on_cpu, mixed_precision=precision, log_with=tracker, project_dir=str(folder))


@contextmanager
def _accelerate_on(device: str) -> Iterator[None]:
    """Accelerate takes the first GPU, unless its variable says another; several processes have one each."""
    before = os.environ.get(DEVICE_OF_ACCELERATE)
    os.environ[DEVICE_OF_ACCELERATE] = device
    try:
        yield
    finally:
        if before is None:
            del os.environ[DEVICE_OF_ACCELERATE]
        else:
            os.environ[DEVICE_OF_ACCELERATE] = before


def fast_precision(on_cpu: bool) -> str:
    """What is used unless another precision is given. A GPU that is not there is one that has bfloat16.

    One from before 2020 would be said to have it, too, but imitates it slowly.
    """
    gpu = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if (has_fast_bfloat16() if on_cpu else gpu) else "no"


def _networks(
    denoiser: Denoiser, family: Family, start: Variant | None, options: RefineOptions, accelerator: Any
) -> tuple[Denoisers, Mapping[str, Tensor]]:
    """The student from the start's weights, the teacher from the untrained ones."""
    network = denoiser.network
    if accelerator.device.type == "cpu":
        choose_attention(network)
    parameters = Parameters.parse(options.param)
    networks = Denoisers(network, denoiser.predict, accelerator.autocast, reads_masks=denoiser.reads_masks)
    if parameters.rank is None:
        networks.keep_teacher()
    originals = apply_edit(denoiser.pipe, start) if start is not None else []
    network.requires_grad_(False)
    stored = float8_layers(denoiser.pipe) if options.storage is not None else []
    trained = choose(network, parameters, family) if options.loss.weights else {}
    names = {id(weight): name for name, weight in network.named_parameters()}
    changed = {names[id(weight)]: value for weight, value in originals}
    if parameters.rank is not None:
        networks.originals = {name: value.to(accelerator.device) for name, value in changed.items()}
    denoiser.reads = torch.float32
    exact = changed if parameters.rank is None else ()
    # Parts of weights are exchanged in groups of one dtype.
    dtype = None if Processes(accelerator).sharded else DTYPES.get(accelerator.mixed_precision)
    keep_frozen(networks, dtype, stored, exact)
    if options.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    return networks, trained


def keep_frozen(
    networks: Denoisers, dtype: torch.dtype | None, stored: Iterable[nn.Module] = (), changed: Collection[str] = ()
) -> None:
    """Keep what is not trained of both networks in few bytes.

    Args:
        dtype: what the passes multiply in; None is what weights are in.
        stored: layers to be kept in float8.
        changed: what a start has changed: it is part of the result, as exact as it came.
    """
    if dtype is not None:
        keep_as_multiplied(networks.network, dtype, lambda name: name in changed)
        for teacher in networks.both[1:]:
            keep_as_multiplied(teacher, dtype)
    keep_in_float8(stored)  # last, rounded twice, as in drawing


def _sampling(denoiser: Denoiser, options: RefineOptions) -> Sampling:
    """How trajectories are drawn: by DDIM, of a flow by the model's own scheduler."""
    scheduler = plain_scheduler(denoiser.scheduler)
    return Sampling(options.sampling_steps, options.guidance, scheduler=scheduler, size=options.pixels)


def choose_attention(network: Any) -> None:
    """On a processor the backward pass of plain attention is much faster than the fused one's, but it keeps matrices:
    of 64×64 latents 0.5 GB a row."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor

    if isinstance(network, UNet2DConditionModel) and network.config["sample_size"] <= SMALL:
        network.set_attn_processor(AttnProcessor())


def _begun(
    model: EditableModel, denoiser: Denoiser, edit: Variant | None, prompts: Prompts, options: RefineOptions
) -> Finder:
    """The search at the start of the run."""
    device = denoiser.device
    untrained = {name: W.to(device) for name, W in model.projections.items()}
    edited = {} if edit is None else {name: (untrained[name], W) for name, W in edit.weights(untrained).items()}
    now = partial(_projections, denoiser.network, untrained)
    return options.finds.begin(Ground(prompts, device, denoiser.streams, now, edited))


@torch.no_grad()
def _projections(unet: Any, untrained: Mapping[str, Tensor]) -> Projections:
    """Name → (untrained, now), also where a LoRA is on top."""
    named = {name.replace(".base_layer.", "."): weight for name, weight in unet.named_parameters()}
    learnt = lora_factors(unet)
    now = {}
    for name in untrained:
        W = whole(named[name])
        trained = W.float() + learnt[name].change(W) if name in learnt else W.float()
        now[name] = untrained[name].to(W).float(), trained  # rounded likewise, so that rounding is no change
    return now
