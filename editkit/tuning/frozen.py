"""Weights that are not trained, kept in as few bytes as the passes need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

STORED = torch.float8_e4m3fn
"""What `--storage fp8` keeps weights in, as for drawing."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision of the passes → what autocast multiplies in; with `no` weights are multiplied as they are."""


def keep_as_multiplied(network: nn.Module, dtype: torch.dtype, but: Callable[[str], bool] = lambda name: False) -> None:
    """Keep what linear layers and convolutions of `network` are not trained in as the dtype that autocast multiplies
    them in: it would round float32 so in every pass, and keep what it made for the backward pass. No bit of a pass
    under autocast changes. Norms, tables and what is trained stay as they are.

    >>> layer = nn.Linear(2, 2).requires_grad_(False)
    >>> keep_as_multiplied(nn.Sequential(layer, nn.LayerNorm(2)), torch.bfloat16)
    >>> layer.weight.dtype
    torch.bfloat16

    Args:
        but: whether a parameter of that name is to stay.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            for own, weight in layer.named_parameters(recurse=False):
                if not weight.requires_grad and weight.dtype == torch.float32 and not but(f"{name}.{own}"):
                    weight.data = weight.data.to(dtype)


def keep_in_float8(layers: Iterable[nn.Module]) -> None:
    """Keep the weights of the linear layers among `layers` in float8, each cast when it is multiplied: forward, and
    again backward. Their biases stay.

    diffusers casts a layer where it lies and back, and the backward pass would then find float8.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.weight.data = layer.weight.data.to(STORED)
            layer.__class__ = Float8Linear


class Float8Linear(nn.Linear):
    """A frozen linear layer whose weight is in float8; it multiplies in what autocast says, else in what it reads."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return _Multiplied.apply(input.to(dtype), self.weight, bias)


class _Multiplied(torch.autograd.Function):
    """`x Wᵀ + b`. What is kept for the backward pass is the weight as it is stored, not as it was cast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(x, weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (weight,) = ctx.saved_tensors
        return grad @ weight.to(grad.dtype), None, None
