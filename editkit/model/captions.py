"""The small modules that stand between a text encoder and the projections an edit changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.states import behind
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint, read_component
from editkit.model.checkpoints.source import Source


def projected(source: Source, encoder: TextEncoder, prefix: str) -> TextEncoder:
    """`encoder` behind the denoiser's caption projection, a small network over single rows: PixArt, LTX, Wan."""
    from diffusers.models.embeddings import PixArtAlphaTextProjection

    tensors = denoiser_tensors(source, prefix)
    try:
        outer = tensors["linear_2.weight"]
        module = PixArtAlphaTextProjection(encoder.width, outer.shape[1], outer.shape[0])
        return through(encoder, module, tensors, int(outer.shape[0]))
    except (KeyError, RuntimeError) as error:
        raise EditkitError(
            f"model {source.name}: its {prefix} is no caption projection for width {encoder.width} ({error}); "
            "do text encoder and denoiser belong together?"
        ) from error


def normed(source: Source, encoder: TextEncoder, prefix: str, eps: float) -> TextEncoder:
    """`encoder` behind the denoiser's root-mean-square norm of its rows: Lumina-Image 2, Qwen-Image, Sana."""
    from diffusers.models.normalization import RMSNorm

    tensors = denoiser_tensors(source, prefix)
    try:
        return through(encoder, RMSNorm(encoder.width, eps), tensors, encoder.width)
    except RuntimeError as error:
        raise EditkitError(
            f"model {source.name}: its {prefix} is no norm for width {encoder.width} ({error}); "
            "do text encoder and denoiser belong together?"
        ) from error


def denoiser_tensors(source: Source, prefix: str) -> dict[str, Tensor]:
    """The denoiser's tensors below `prefix`, named from there on."""
    tensors = read_component(source, source.family.component, lambda name: name.startswith(f"{prefix}."))
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()}


def through(encoder: TextEncoder, module: Any, tensors: dict[str, Tensor], width: int) -> TextEncoder:
    """`encoder` with `module`, filled with `tensors`, behind it. In float32; what it is made of names it too."""
    module.load_state_dict(tensors)
    module.float().eval()

    def mark() -> str:
        return f"{encoder.fingerprint}-{fingerprint(tensors)}"

    return replace(encoder, states=behind(encoder.states, module), width=width, mark=mark)
