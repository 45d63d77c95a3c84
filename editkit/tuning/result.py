"""What a run has changed, as a `Tuned`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from editkit.edits.low_rank import LowRank
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint, read_named, read_projections
from editkit.model.checkpoints.source import Source
from editkit.model.encoder_weights import encoders_of
from editkit.tuning.parameters import Parameters
from editkit.tuning.processes import whole

EXACT = 1e-7
"""Relative error to which an edit's map is cut before it becomes part of a LoRA: that of float32."""


def check_start(start: Variant | None, parameters: Parameters) -> None:
    """Refuse a LoRA on top of whole tensors that were tuned: the result would be neither; and text encoders of another
    kind than the teacher's."""
    if start is not None and encoders_of(start.names):
        raise EditkitError(
            f"the start trained the text encoders ({start.record.get('method')}), and a denoiser is trained by the "
            "model's own; start from an edit, or from the unedited model"
        )
    if parameters.rank is not None and start is not None and not start.is_low_rank:
        raise EditkitError("--param lora: the start has whole tuned tensors, which no LoRA holds; use --param xattn")


@torch.no_grad()
def tuned_from(
    unet: nn.Module, parameters: Parameters, start: Variant | None, source: Source, record: dict[str, Any]
) -> Tuned:
    """The difference between `unet` and the model at `source`: what was trained, and what the start had changed."""
    if parameters.rank is None:
        before, inside = _start_tensors(start, source), parameters.of(source.family)
        weights = {
            name: whole(weight.detach()).cpu().clone()
            for name, weight in unet.named_parameters()
            if inside(name) or (name in before and not torch.equal(whole(weight).cpu().float(), before[name].float()))
        }
        return Tuned(weights, {}, _hashes(read_named(source, list(weights))), record)
    learnt = lora_factors(unet)
    before = _start_factors(start, source)
    factors = {name: _stacked(before.get(name), learnt.get(name)) for name in {**before, **learnt}}
    return Tuned({}, factors, _hashes(read_named(source, list(factors))), record)


def lora_factors(unet: nn.Module) -> dict[str, LowRank]:
    """The adapter of every layer; its scale is one."""
    factors = {}
    for name, module in unet.named_modules():
        if hasattr(module, "lora_A"):
            up, down = (whole(part["default"].weight) for part in (module.lora_B, module.lora_A))  # pyright: ignore
            factors[f"{name}.weight"] = LowRank(up.flatten(1).cpu().clone(), down.flatten(1).cpu().clone())
    return factors


def _start_factors(start: Variant | None, source: Source) -> dict[str, LowRank]:
    if start is None:
        return {}
    changes = start.low_rank(_start_tensors(start, source), error=EXACT)
    return {name: change.float() for name, change in changes.items()}


def _start_tensors(start: Variant | None, source: Source) -> Mapping[str, Tensor]:
    """The model's own values of the tensors that the start may have changed: of an edit, the text projections."""
    if start is None:
        return {}
    return read_projections(source) if start.names is None else read_named(source, start.names)


def _stacked(first: LowRank | None, second: LowRank | None) -> LowRank:
    """The sum of two changes."""
    parts = [change for change in (first, second) if change is not None]
    return LowRank(torch.cat([part.up for part in parts], 1), torch.cat([part.down for part in parts]))


def _hashes(base: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: fingerprint({name: W}) for name, W in base.items()}
