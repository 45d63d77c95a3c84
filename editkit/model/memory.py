"""The most memory that tensors take at once, counted in a dry pass on tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30
CUDA_ITSELF = 600 * 2**20
"""What a process has on a GPU before its first tensor: the context, and the libraries' workspaces."""


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that come and go while it is entered; `peak` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):  # what was there before
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._known:
                self._watch(leaf.untyped_storage(), 0)
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self._known:
                self._watch(leaf.untyped_storage(), leaf.untyped_storage().nbytes())
        return out

    def _watch(self, storage: torch.UntypedStorage, size: int) -> None:
        self._known.add(storage._cdata)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_of(run: Callable[[], None]) -> int:
    """Bytes that `run` holds at once, beside what is there before."""
    with LiveBytes() as live:
        run()
    return live.peak


def keep_norms_exact(network: nn.Module) -> None:
    """Let norms read float32, as they do under autocast on a GPU alone: a dry pass runs on a processor's tensors."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda module, given: tuple(tensor.float() for tensor in given))


def told(head: str, parts: Mapping[str, str], itself: int = 0) -> str:
    """A plan as it is printed: a line for each part, and what CUDA takes `itself`."""
    width = max(map(len, parts))
    lines = [head, *(f"  {name:{width}}  {said}" for name, said in parts.items())]
    return "\n".join([*lines, f"  CUDA itself {itself / GIB:.2f}"] if itself else lines)


def is_gpu(device: str) -> bool:
    """Whether a device of that name has a memory of its own."""
    return not device.startswith("cpu")
