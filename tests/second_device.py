"""A second device where there is none: tensors of the processor that carry the name of a GPU, and the rules of one.

The values are the processor's. What is kept is where each tensor lies, and an operation on tensors of both devices
fails as it does on CUDA. So code that forgets to move a tensor is found on a machine without a GPU. As `mps` it has no
float64. Kernels, autocast and generators of a GPU are not imitated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU, ANYWHERE = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")
MOVES = {"copy_", "_to_copy", "set_"}
WITHIN = {Tensor.backward, torch.autograd.backward, torch.autograd.grad, Tensor.quantile, torch.linalg.pinv}
"""See `Kernels.inside`."""
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}


def label(tensor: Tensor, device: torch.device) -> Tensor:
    """Lay the tensor, and all that shares its memory, on a device."""
    tensor.untyped_storage().lies_on = device  # pyright: ignore[reportAttributeAccessIssue]
    return tensor


def place(tensor: Tensor) -> torch.device:
    """Where a tensor lies."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return tensor.device
    return getattr(tensor.untyped_storage(), "lies_on", CPU)


def is_scalar(tensor: Tensor) -> bool:
    """Whether it is read as a number, which kernels of a GPU take from the processor."""
    return tensor.ndim == 0 and place(tensor) == CPU


class Kernels(TorchDispatchMode):
    """What a GPU says of the operations that are run: nothing but their devices is looked at."""

    inside = False
    """Torch's own code makes tensors and knows no place but the processor: the engine fills in zeros where the forward
    pass lay, some functions make tensors of their arguments."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and to import the compiler takes six seconds."""
        return False

    def __init__(self, device: torch.device = GPU) -> None:
        super().__init__()
        self.device = device

    def laid(self, tensor: Tensor, wanted: Any) -> Tensor:
        """On the device of that name, where it can be.

        Raises:
            TypeError: a GPU of Apple is to hold float64.
        """
        at = self.device if torch.device(wanted).type == self.device.type else CPU
        if at.type == "mps" and tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return label(tensor, at)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = {place(tensor) for tensor in given if not self._may_be_elsewhere(func, name, args, tensor)}
        places.discard(ANYWHERE)
        if len(places) > 1 and name not in MOVES:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {self.device} and cpu")
        out = func(*args, **kwargs)
        at = self.device if self.device in places else ANYWHERE if self.inside and not places else None
        if at is not None and name not in MOVES - {"_to_copy"}:
            lay = label if at == ANYWHERE else self.laid
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor) and leaf.device.type == "cpu":
                    lay(leaf, at)
        return out

    @staticmethod
    def _may_be_elsewhere(func: Any, name: str, args: Any, tensor: Tensor) -> bool:
        if name in INDEXED and tensor is not args[0]:  # indices may be the processor's; values only as a number
            return place(tensor) == CPU and (tensor.ndim == 0 or any(tensor is index for index in args[1]))
        scalars = torch.Tag.pointwise in func.tags or name in {"where", "masked_fill", "masked_fill_", "fill_"}
        return scalars and is_scalar(tensor)


class Names(TorchFunctionMode):
    """What Python says of devices: requests for a GPU are granted, and tensors say where they lie."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func == Tensor.device.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return place(args[0])
        if func == Tensor.is_cuda.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return place(args[0]) == GPU
        if name in {"numpy", "__array__"} and place(args[0]) != CPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name == "__deepcopy__":
            return label(func(*args, **kwargs), place(args[0]))
        if func in WITHIN:
            self.kernels.inside = True
            try:
                return func(*args, **kwargs)
            finally:
                self.kernels.inside = False
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.type_as):
            return self._moved(func, args, kwargs)
        wanted = kwargs.get("device")
        if wanted is None:
            return func(*args, **kwargs)
        if torch.device(wanted).type == "meta":
            return func(*args, **kwargs)
        kwargs["device"] = CPU
        out = func(*args, **kwargs)
        return tree_map(lambda leaf: self.kernels.laid(leaf, wanted) if isinstance(leaf, Tensor) else leaf, out)

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        tensor, rest, named = args[0], list(args[1:]), dict(kwargs)
        wanted: Any = kwargs.pop("device", None)
        if func is Tensor.cpu:
            wanted, rest = CPU, []
        elif func is Tensor.cuda:
            wanted, rest = GPU, []
        elif rest and isinstance(rest[0], Tensor):
            wanted, rest[0] = place(rest[0]), rest[0].dtype
        elif "other" in kwargs:
            other = kwargs.pop("other")
            wanted, rest = place(other), [other.dtype]
        elif rest and (rest[0] is None or isinstance(rest[0], str | torch.device | int)):
            wanted = rest.pop(0)
        if wanted is not None and torch.device(wanted).type == "meta":
            return func(*args, **named)
        kwargs |= zip(("dtype", "non_blocking", "copy"), rest, strict=False)
        moved = Tensor.to(tensor, CPU, **kwargs) if kwargs else tensor
        at = place(tensor) if wanted is None else wanted
        if torch.device(at).type == place(tensor).type:
            return moved
        return self.kernels.laid(moved.clone() if moved is tensor or place(moved) == place(tensor) else moved, at)


@contextmanager
def second_device(kind: str = "cuda", capability: tuple[int, int] = (8, 0)) -> Iterator[str]:
    """`with second_device() as cuda: ...`: what is moved to `cuda` meanwhile does not mix with what is not.

    Args:
        kind: `cuda` or `mps`.
        capability: what CUDA says of it.
    """
    kernels = Kernels(torch.device(kind, 0))
    with (
        patch.object(torch.cuda, "get_device_capability", lambda device=None: capability),
        Names(kernels),
        kernels,
    ):
        yield kind
