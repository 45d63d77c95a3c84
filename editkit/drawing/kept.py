"""Keys and values of a prompt, computed once a picture: they do not change from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def kept_projections(network: nn.Module, weights: Iterable[str]) -> Iterator[None]:
    """While the context lasts, modules that are given what they were given last say what they said.

    Args:
        network: no weight of it changes meanwhile, nor does what it is given in its place in memory.
        weights: tensor names of the modules that read a prompt.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(2, 2))
    >>> with kept_projections(network, ["0.weight"]):
    ...     text = torch.ones(1, 2)
    ...     network(text) is network(text)
    True
    """
    with run_as([network.get_submodule(name.removesuffix(".weight")) for name in weights], _once):
        yield


@contextmanager
def run_as(modules: Sequence[nn.Module], made: Callable[[Any], Any]) -> Iterator[None]:
    """While the context lasts, modules run what is `made` of their `forward`. Hooks that offload or cast weights stand
    in its place and come back to it."""
    hooked = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = made(module.forward)
    try:
        yield
    finally:
        for module, forward in zip(modules, hooked, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether these are the same numbers in memory: some networks look at a prompt through a new view each step. The
    first is kept, so that its memory is nobody else's."""
    places = [(each.data_ptr(), each.shape, each.stride(), each.dtype, each.device) for each in (one, other)]
    return places[0] == places[1]


def _once(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    last: list[Tensor] = []

    def kept(given: Tensor, *more: Any, **named: Any) -> Tensor:
        if more or named:
            return forward(given, *more, **named)
        if not last or not _is_same(last[0], given):
            last[:] = [given, forward(given)]
        return last[1]

    return kept
