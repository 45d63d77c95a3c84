"""What a processor or a GPU is good at, and whether there is the device that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from editkit.errors import EditkitError

if TYPE_CHECKING:
    import torch

Float64 = Literal["fast", "slow", "none"]
FAST_FLOAT64 = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})
"""Compute capabilities of the GPUs that do float64 at half of float32's speed: P100, V100, A100, H100, B200. All
others, such as those for games (RTX 3090: 8.6), do it at 1/32 or 1/64."""


def float64_on(device: str | torch.device) -> Float64:
    """How a device does float64: at half of float32's speed or more, far more slowly, or not at all (MPS).

    >>> float64_on("cpu"), float64_on("mps")
    ('fast', 'none')
    """
    import torch

    device = known_device(device)
    if device.type in ("cpu", "meta"):
        return "fast"
    if device.type == "mps":
        return "none"
    is_fast = device.type == "cuda" and torch.cuda.get_device_capability(device) in FAST_FLOAT64
    return "fast" if is_fast else "slow"


def solving_device(device: str | torch.device) -> torch.device:
    """Where float64 is computed for what lies on `device`: there, or on the processor where there is none.

    Raises:
        EditkitError: torch knows no device of that name.

    >>> solving_device("cuda:1"), solving_device("mps")
    (device(type='cuda', index=1), device(type='cpu'))
    """
    device = known_device(device)
    return known_device("cpu") if device.type == "mps" else device


def known_device(name: str | torch.device) -> torch.device:
    """The device of that name, which need not be here.

    Raises:
        EditkitError: torch knows none of that name.

    >>> known_device("gpu")
    Traceback (most recent call last):
        ...
    editkit.errors.EditkitError: --device gpu: expected cpu, cuda, cuda:1 and so on, mps or xpu
    """
    import torch

    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EditkitError(f"--device {name}: expected cpu, cuda, cuda:1 and so on, mps or xpu") from error


@contextmanager
def whole_float32(kind: str) -> Iterator[None]:
    """Products of float32 matrices with all of its bits: no TF32, no bfloat16, no autocast, whatever is set outside.

    Args:
        kind: of the device, such as `cuda`.
    """
    import torch

    known: list[Any] = [getattr(backend, "matmul", None) for backend in (torch.backends.cuda, torch.backends.mkldnn)]
    backends = [each for each in known if hasattr(each, "fp32_precision")]  # torch before 2.9 has none
    before = [each.fp32_precision for each in backends] if backends else torch.get_float32_matmul_precision()
    cast = torch.is_autocast_enabled(kind)
    try:
        if cast:
            torch.set_autocast_enabled(kind, False)
        if isinstance(before, str):
            torch.set_float32_matmul_precision("highest")
        for each in backends:
            each.fp32_precision = "ieee"
        yield
    finally:
        if cast:
            torch.set_autocast_enabled(kind, True)
        if isinstance(before, str):
            torch.set_float32_matmul_precision(before)
        for each, precision in zip(backends, before, strict=False):
            each.fp32_precision = precision


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware, about ten times as fast as float32."""
    import torch

    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def has_bfloat16() -> bool:
    """The same, or at least bfloat16 vectors (AVX-512), about twice as fast as float32: enough where nothing but
    products of large matrices counts."""
    import torch

    return has_fast_bfloat16() or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def check_device(name: str) -> None:
    """Refuse a device that is not here, before anything is loaded for it.

    Raises:
        EditkitError: no such device, or none that this build of torch can use.

    >>> check_device("cpu")
    """
    import torch

    known_device(name)
    try:
        torch.empty(1, device=name)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # whatever torch raises for that kind of device
        said = str(error).splitlines()[0]
        raise EditkitError(f"--device {name}: cannot be used here ({said}); try cpu") from error
