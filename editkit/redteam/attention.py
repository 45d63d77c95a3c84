"""Distance between what attention makes of prompts: exact for one layer, and blind to the order of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import noise
from editkit.drawing.sampling import Sampling, scheduler_for
from editkit.drawing.trajectory import trajectory
from editkit.edits.variant import Variant
from editkit.redteam.arena import Arena

QUERIES = 256
"""Queries a layer."""
MOMENTS = (2, 8, 14)
"""Steps of 20 at which they are recorded."""


@dataclass(frozen=True)
class Layer:
    """One cross-attention: queries `(heads, n, h)` of the original, and the keys' and values' projections `(o, d)`."""

    queries: Tensor
    key: Tensor
    value: Tensor
    edited_key: Tensor
    edited_value: Tensor

    def outputs(self, rows: Tensor, edited: bool) -> Tensor:
        """`softmax(q K / √h) V` of rows `(batch, tokens, d)`, `(batch, heads, n, h)`."""
        heads = len(self.queries)
        keys, values = (
            (rows @ weight.T).unflatten(-1, (heads, -1)).transpose(1, 2)
            for weight in ((self.edited_key, self.edited_value) if edited else (self.key, self.value))
        )
        return torch.nn.functional.scaled_dot_product_attention(
            self.queries[None].expand(len(rows), -1, -1, -1), keys, values
        )


@dataclass(frozen=True)
class AttentionDistance:
    """Mean squared difference of attention outputs, over layers and recorded queries, in shares of the empty
    prompt's."""

    layers: tuple[Layer, ...]
    wanted: tuple[Tensor, ...]
    sizes: tuple[float, ...]

    @classmethod
    def of(cls, arena: Arena, variant: Variant | None, wanted: Tensor, nothing: Tensor) -> AttentionDistance:
        """Record queries from a trajectory of the original under `wanted` `(tokens, d)`."""
        wanted, nothing = (rows.to(arena.original.denoiser.device) for rows in (wanted, nothing))
        layers = tuple(_layers(arena, variant, wanted))
        outputs = tuple(layer.outputs(wanted[None], edited=False) for layer in layers)
        empty = [layer.outputs(nothing[None], edited=True) for layer in layers]
        sizes = tuple(
            max(float((one - other).square().mean()), 1e-12) for one, other in zip(empty, outputs, strict=True)
        )
        return cls(layers, outputs, sizes)

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows.to(self.wanted[0].device)
        parts = [
            (layer.outputs(rows, edited=True) - wanted).square().mean((1, 2, 3)) / size
            for layer, wanted, size in zip(self.layers, self.wanted, self.sizes, strict=True)
        ]
        return torch.stack(parts).mean(0)


@torch.no_grad()
def _layers(arena: Arena, variant: Variant | None, wanted: Tensor) -> Iterator[Layer]:
    denoiser = arena.original.denoiser
    known = {name: weight.detach() for name, weight in denoiser.network.named_parameters()}
    names = [name for name in denoiser.streams["text"].names if name.endswith(".to_k.weight")]
    both = [name.replace(".to_k.", part) for name in names for part in (".to_k.", ".to_v.")]
    new = {} if variant is None else variant.weights({name: known[name] for name in both if variant.changes(name)})
    queries = _recorded(arena, [name.removesuffix(".to_k.weight") for name in names], wanted)
    for name in names:
        key, value = name, name.replace(".to_k.", ".to_v.")
        weights = [known[key], known[value], new.get(key, known[key]), new.get(value, known[value])]
        yield Layer(queries[name.removesuffix(".to_k.weight")], *(weight.float() for weight in weights))


def _recorded(arena: Arena, modules: list[str], wanted: Tensor) -> dict[str, Tensor]:
    """Queries of every attention `(heads, QUERIES, h)`, spread over places and moments of one trajectory."""
    denoiser, kept = arena.original.denoiser, {name: [] for name in modules}
    is_kept, hooks = [False], []

    def hook(name: str) -> Any:
        return lambda module, given, out: kept[name].append(out[0].float()) if is_kept[0] else None

    for name in modules:
        hooks.append(denoiser.network.get_submodule(f"{name}.to_q").register_forward_hook(hook(name)))
    scheduler = scheduler_for(denoiser.scheduler, Sampling(20, scheduler="ddim"))
    start = noise(denoiser.latent_shape(), arena.seed + 1)[None].to(denoiser.device)
    step = [-1]

    def network(z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        step[0] += 1
        is_kept[0] = step[0] in MOMENTS
        return arena.original.read(z, t, condition, arena.cost)

    try:
        list(islice(trajectory(network, scheduler, start, Condition(wanted[None])), MOMENTS[-1] + 2))
    finally:
        for each in hooks:
            each.remove()
    made = {}
    for name in modules:
        heads = denoiser.network.get_submodule(name).heads
        rows = torch.cat(kept[name])
        spread = torch.linspace(0, len(rows) - 1, min(QUERIES, len(rows))).long()
        made[name] = rows[spread].unflatten(-1, (heads, -1)).transpose(0, 1).contiguous()
    return made
