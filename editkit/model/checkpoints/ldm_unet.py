"""Names of all UNet tensors in single-file checkpoints: what was tuned is not text projections alone."""

from __future__ import annotations

import re

from editkit.errors import EditkitError
from editkit.model.checkpoints.ldm_names import text_levels

_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_BLOCK = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def ldm_name(name: str, family: str) -> str:
    """The checkpoint's name (without `UNET_PREFIX`) of the UNet tensor with diffusers' name.

    Raises:
        EditkitError: an unknown family, or no tensor of its UNet.
    """
    levels = text_levels(family)[1]
    for ours, theirs in _ENDS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise EditkitError(f"{name}: no tensor of a {family} UNet in diffusers' names; is it the model that was read?")
    way, level, kind, layer, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if kind == "resnets":
        rest = next((new + rest.removeprefix(old) for old, new in _RESNET.items() if rest.startswith(old)), rest)
    if way is None:
        return f"middle_block.{1 if kind == 'attentions' else 2 * layer}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.{rest.replace('conv.', 'op.')}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{2 if level in levels else 1}.{rest}"
    at = 1 if kind == "attentions" else 0
    return f"input_blocks.{1 + 3 * level + layer}.{at}.{rest}" if way == "down" else (
        f"output_blocks.{3 * level + layer}.{at}.{rest}"
    )  # fmt: skip
