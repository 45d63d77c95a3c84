"""The text-side projections of a model: the keys and values that read the prompt."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from editkit.errors import EditkitError
from editkit.model.source import Source

TEXT_PROJECTIONS = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""In a `UNet2DConditionModel` every `attn2` is cross-attention to the prompt, and `to_k`, `to_v` read it raw."""


def is_text_projection(name: str) -> bool:
    return name.endswith(TEXT_PROJECTIONS)


def read_projections(source: Source) -> dict[str, Tensor]:
    """Tensor name → `W` `(o, d)`, read one by one: the rest of the checkpoint is never in memory."""
    found: dict[str, Tensor] = {}
    for path in source.weights("unet"):
        found |= read_tensors(path, is_text_projection)
    if not found:
        raise EditkitError(f"model {source.name}: no text cross-attention (attn2.to_k, attn2.to_v) in its unet")
    return dict(sorted(found.items()))


def read_tensors(path: Path, wanted) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names `wanted` accepts."""
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.offset_keys() if wanted(name)}
    except (SafetensorError, OSError) as error:
        raise EditkitError(
            f"{path}: expected a safetensors file, but it cannot be read ({error}); it may be truncated, fetch it again"
        ) from error


def fingerprint(projections: dict[str, Tensor]) -> str:
    """sha256 over the names and bytes of the projections."""
    digest = hashlib.sha256()
    for name, W in sorted(projections.items()):
        digest.update(name.encode())
        digest.update(W.contiguous().view(-1).view(dtype=_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes():
    import torch

    return torch.uint8
