"""What the processor is good at, and whether there is the device that was asked for."""

from __future__ import annotations

from editkit.errors import EditkitError


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

    try:
        torch.empty(1, device=name)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # whatever torch raises for that kind of device
        said = str(error).splitlines()[0]
        raise EditkitError(f"--device {name}: cannot be used here ({said}); try cpu") from error
