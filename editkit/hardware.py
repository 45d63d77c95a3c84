"""What the processor is good at."""

from __future__ import annotations


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware, about ten times as fast as float32."""
    import torch

    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
