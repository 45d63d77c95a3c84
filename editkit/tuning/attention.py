"""What a student's cross-attention gives to some tokens of the prompt, with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

KEYS = ".to_k.weight"


def attention_layers(names: Iterable[str]) -> tuple[str, ...]:
    """The modules that attend to the prompt, of the projections that read it.

    >>> attention_layers(["down.attn2.to_k.weight", "down.attn2.to_v.weight"])
    ('down.attn2',)
    """
    return tuple(name.removesuffix(KEYS) for name in names if name.endswith(KEYS))


class Attended:
    """Queries and keys of some layers in one pass, and what they come to.

    A pass that is run again for its gradients (checkpointing) records nothing more.
    """

    def __init__(self) -> None:
        self.queries: dict[str, Tensor] = {}
        self.keys: dict[str, Tensor] = {}
        self.layers: dict[str, Any] = {}

    def to(self, tokens: Tensor) -> Tensor:
        """The attention of every layer, head and query to `tokens` `(rows, tokens)`, which are true, and zeros for
        others: `(rows, numbers)` float32."""
        return torch.cat([self._layer(name, tokens) for name in self.layers], dim=1)

    def _layer(self, name: str, tokens: Tensor) -> Tensor:
        layer = self.layers[name]
        query, key = (
            exact(kept[name]).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for kept in (self.queries, self.keys)
        )
        weights = (query @ key.transpose(-1, -2) * layer.scale).softmax(-1)
        return (weights * tokens[:, None, None, : weights.shape[-1]]).flatten(1)


def exact(tensor: Tensor) -> Tensor:
    """At least in float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def recorded(network: nn.Module, layers: Iterable[str]) -> Iterator[Attended]:
    """While the context lasts, a pass of `network` is recorded."""
    kept, hooks = Attended(), []
    for name in layers:
        layer: Any = network.get_submodule(name)
        kept.layers[name] = layer
        for module, into in ((layer.to_q, kept.queries), (layer.to_k, kept.keys)):
            hooks.append(module.register_forward_hook(partial(_keep, into, name)))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _keep(into: dict[str, Tensor], name: str, module: nn.Module, given: Any, out: Tensor) -> None:
    into.setdefault(name, out)
