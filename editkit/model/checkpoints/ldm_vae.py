"""Names of the VAE's tensors in single-file checkpoints."""

from __future__ import annotations

import re

_MIDDLE = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")


def ldm_vae_name(name: str, levels: int) -> str:
    """The checkpoint's name, without `first_stage_model.`, of the VAE tensor with diffusers' name.

    Args:
        levels: of the VAE. The way up is counted from its end.

    >>> ldm_vae_name("decoder.up_blocks.0.resnets.2.conv_shortcut.bias", 4)
    'decoder.up.3.block.2.nin_shortcut.bias'
    """
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        side, kind, layer, rest = match.groups()
        if kind == "resnets":
            return f"{side}.mid.block_{int(layer) + 1}.{rest}"
        new = next(theirs + rest.removeprefix(ours) for ours, theirs in _MIDDLE.items() if rest.startswith(ours))
        return f"{side}.mid.attn_1.{new}"
    if match := _BLOCK.fullmatch(name):
        side, way, level, kind, layer, rest = match.groups()
        at = f"{side}.{way}.{int(level) if way == 'down' else levels - 1 - int(level)}"
        if kind == "resnets":
            return f"{at}.block.{layer}.{rest.replace('conv_shortcut.', 'nin_shortcut.')}"
        return f"{at}.{kind.removesuffix('rs')}.{rest}"
    return name.replace("conv_norm_out.", "norm_out.")
