"""What the processor is good at, and whether there is the device that was asked for."""

from __future__ import annotations

from editkit.errors import EditkitError


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware: with AMX about ten times as fast as float32, with
    AVX512-BF16 about twice."""
    import torch

    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(supported is not None and supported() for supported in known)


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
