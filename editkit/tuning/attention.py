"""What a student's cross-attention gives to some tokens of the prompt, with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from editkit.errors import EditkitError

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
        return torch.cat([self._weights(name, tokens).flatten(1) for name in self.layers], dim=1)

    def over(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`A_i ⊙ mask` of every layer `i`: the mean head's attention to `tokens` where the mask of the latents, `(rows,
        1, h, w)`, is: `(rows, numbers)` float32."""
        parts = [self._weights(name, tokens).mean(1) for name in self.layers]
        return torch.cat([(part * on_grid(mask, part.shape[1])[..., None]).flatten(1) for part in parts], dim=1)

    def where(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Where the layers attend to `tokens`: heads and tokens together, every layer with the mean 1, on the grid of
        the latents: `(rows, 1, height, width)`."""
        total = torch.zeros(())
        for name in self.layers:
            part = self._weights(name, tokens).sum((1, 3))
            part = (part / part.mean(1, keepdim=True)).unflatten(1, (1, *grid_of(part.shape[1], height, width)))
            total = total + interpolate(part, (height, width), mode="bilinear") / len(self.layers)
        return total

    def _weights(self, name: str, tokens: Tensor) -> Tensor:
        """Of one layer, `(rows, heads, queries, tokens)`."""
        layer = self.layers[name]
        query, key = (
            exact(kept[name]).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for kept in (self.queries, self.keys)
        )
        weights = (query @ key.transpose(-1, -2) * layer.scale).softmax(-1)
        return weights * tokens[:, None, None, : weights.shape[-1]]


def grid_of(queries: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of the grid that a UNet has so many queries on: that of the latents, halved so often.

    Raises:
        EditkitError: there is none.

    >>> grid_of(4096, 64, 64), grid_of(24, 8, 12), grid_of(9, 5, 6)
    ((64, 64), (4, 6), (3, 3))
    """
    h, w = height, width
    while h * w > queries:
        h, w = (h + 1) // 2, (w + 1) // 2
    if h * w != queries:
        raise EditkitError(
            f"attention: {queries} queries are no grid of {width}x{height} latents; use another objective"
        )
    return h, w


def on_grid(mask: Tensor, queries: int) -> Tensor:
    """A mask `(rows, 1, h, w)` of the latents on the grid of a layer, by the mean of the area: `(rows, queries)`."""
    return interpolate(mask, grid_of(queries, *mask.shape[-2:]), mode="area").flatten(1)


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
