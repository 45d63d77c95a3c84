"""A family by its parts: pipelines of Stable Diffusion have many names, and most read the prompt in the same place.

Guidance, a ControlNet or a picture to start from changes nothing about where the prompt enters the UNet; another text
encoder, or a UNet with a second way in, does. So the parts and the UNet's configuration decide, not the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECOND_WAYS = {
    "encoder_hid_dim_type": "its UNet projects text or pictures before its attention reads them",
    "class_embed_type": "its UNet also reads embeddings of a picture, which may show what was to be erased",
}
"""Entries of a UNet's configuration that are null where text enters through `attn2` alone, and what they mean else."""
GATED = "its UNet reads phrases in gated attention, too, beside the latent: there is no fixed key"


def family_by_parts(components: Mapping[str, str], config: Mapping[str, Any]) -> tuple[str | None, str]:
    """The short name of the Stable Diffusion family that a pipeline's parts make, or None and why they make none.

    Args:
        components: component → class.
        config: `config.json` of the UNet.

    >>> parts = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "controlnet": "ControlNetModel"}
    >>> family_by_parts(parts, {"cross_attention_dim": 1024})
    ('sd2', '')
    """
    two = "text_encoder_2" in components
    expected = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"}
    expected |= {"text_encoder_2": "CLIPTextModelWithProjection"} if two else {}
    for name, kind in expected.items():
        if components.get(name) != kind:
            return None, f"its {name} is {components.get(name, 'not there')}, expected {kind}"
    for key, why in SECOND_WAYS.items():
        if config.get(key) is not None:
            return None, why
    if config.get("attention_type", "default") != "default":
        return None, GATED
    added, wanted = config.get("addition_embed_type"), "text_time" if two else None
    if added != wanted:
        return None, f"its UNet adds embeddings of the kind {added}, expected {wanted}"
    return ("sdxl" if two else "sd2" if config.get("cross_attention_dim") == 1024 else "sd1"), ""
