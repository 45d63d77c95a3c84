"""Where a layer of SD3's and FLUX.1's transformers lies in the networks that their makers published, which kohya's
sd-scripts and ComfyUI name their LoRAs after.

There one layer makes queries, keys and values together, and in FLUX.1's single blocks the first layer of the MLP, too:
layers of diffusers that read the same become rows of one. So a LoRA of some of them is one whose `down` are stacked and
whose `up` stand along the diagonal: the same change to the bit, of the sum of their ranks.
https://github.com/black-forest-labs/flux and https://github.com/Stability-AI/sd3.5 have the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.model.formats.lora import Layer

QKV = (1, 1, 1)
QKV_MLP = (1, 1, 1, 4)
"""Rows of the parts of a fused layer, one to another."""


@dataclass(frozen=True)
class Place:
    """Where a layer lies.

    Attributes:
        module: the layer that it is, or is part of.
        part: which of its parts.
        sizes: their rows, one to another.
        swapped: whether shift and scale, the halves of its rows, come in the other order.
    """

    module: str
    part: int = 0
    sizes: tuple[int, ...] = (1,)
    swapped: bool = False


_BLOCK = r"transformer_blocks\.(\d+)\."
FLUX = {
    r"x_embedder": "img_in",
    r"context_embedder": "txt_in",
    r"time_text_embed\.timestep_embedder\.linear_1": "time_in.in_layer",
    r"time_text_embed\.timestep_embedder\.linear_2": "time_in.out_layer",
    r"time_text_embed\.text_embedder\.linear_1": "vector_in.in_layer",
    r"time_text_embed\.text_embedder\.linear_2": "vector_in.out_layer",
    r"time_text_embed\.guidance_embedder\.linear_1": "guidance_in.in_layer",
    r"time_text_embed\.guidance_embedder\.linear_2": "guidance_in.out_layer",
    rf"{_BLOCK}norm1\.linear": r"double_blocks.\1.img_mod.lin",
    rf"{_BLOCK}norm1_context\.linear": r"double_blocks.\1.txt_mod.lin",
    rf"{_BLOCK}attn\.to_([qkv])": r"double_blocks.\1.img_attn.qkv",
    rf"{_BLOCK}attn\.add_([qkv])_proj": r"double_blocks.\1.txt_attn.qkv",
    rf"{_BLOCK}attn\.to_out\.0": r"double_blocks.\1.img_attn.proj",
    rf"{_BLOCK}attn\.to_add_out": r"double_blocks.\1.txt_attn.proj",
    rf"{_BLOCK}ff\.net\.0\.proj": r"double_blocks.\1.img_mlp.0",
    rf"{_BLOCK}ff\.net\.2": r"double_blocks.\1.img_mlp.2",
    rf"{_BLOCK}ff_context\.net\.0\.proj": r"double_blocks.\1.txt_mlp.0",
    rf"{_BLOCK}ff_context\.net\.2": r"double_blocks.\1.txt_mlp.2",
    rf"single_{_BLOCK}norm\.linear": r"single_blocks.\1.modulation.lin",
    rf"single_{_BLOCK}attn\.to_([qkv])": r"single_blocks.\1.linear1",
    rf"single_{_BLOCK}proj_(mlp)": r"single_blocks.\1.linear1",
    rf"single_{_BLOCK}proj_out": r"single_blocks.\1.linear2",
    r"norm_out\.linear": "final_layer.adaLN_modulation.1",
    r"proj_out": "final_layer.linear",
}
SD3 = {
    r"pos_embed\.proj": "x_embedder.proj",
    r"context_embedder": "context_embedder",
    r"time_text_embed\.timestep_embedder\.linear_1": "t_embedder.mlp.0",
    r"time_text_embed\.timestep_embedder\.linear_2": "t_embedder.mlp.2",
    r"time_text_embed\.text_embedder\.linear_1": "y_embedder.mlp.0",
    r"time_text_embed\.text_embedder\.linear_2": "y_embedder.mlp.2",
    rf"{_BLOCK}norm1\.linear": r"joint_blocks.\1.x_block.adaLN_modulation.1",
    rf"{_BLOCK}norm1_context\.linear": r"joint_blocks.\1.context_block.adaLN_modulation.1",
    rf"{_BLOCK}attn\.to_([qkv])": r"joint_blocks.\1.x_block.attn.qkv",
    rf"{_BLOCK}attn\.add_([qkv])_proj": r"joint_blocks.\1.context_block.attn.qkv",
    rf"{_BLOCK}attn2\.to_([qkv])": r"joint_blocks.\1.x_block.attn2.qkv",
    rf"{_BLOCK}attn\.to_out\.0": r"joint_blocks.\1.x_block.attn.proj",
    rf"{_BLOCK}attn\.to_add_out": r"joint_blocks.\1.context_block.attn.proj",
    rf"{_BLOCK}attn2\.to_out\.0": r"joint_blocks.\1.x_block.attn2.proj",
    rf"{_BLOCK}ff\.net\.0\.proj": r"joint_blocks.\1.x_block.mlp.fc1",
    rf"{_BLOCK}ff\.net\.2": r"joint_blocks.\1.x_block.mlp.fc2",
    rf"{_BLOCK}ff_context\.net\.0\.proj": r"joint_blocks.\1.context_block.mlp.fc1",
    rf"{_BLOCK}ff_context\.net\.2": r"joint_blocks.\1.context_block.mlp.fc2",
    r"norm_out\.linear": "final_layer.adaLN_modulation.1",
    r"proj_out": "final_layer.linear",
}
NAMES: Mapping[str, Mapping[str, str]] = {"flux1": FLUX, "sd3": SD3}
"""Family → diffusers' name of a layer, as a regular expression → its maker's."""


def place(module: str, family: str, rows: int, columns: int) -> Place:
    """Where diffusers' layer `module` of a family of `NAMES` lies, whose weight is `(rows, columns)`.

    >>> place("transformer_blocks.3.attn.add_k_proj", "sd3", 64, 64)
    Place(module='joint_blocks.3.context_block.attn.qkv', part=1, sizes=(1, 1, 1), swapped=False)

    Raises:
        EditkitError: the family has no such layer.
    """
    for ours, theirs in NAMES[family].items():
        match = re.fullmatch(ours, module)
        if match is None:
            continue
        name = match.expand(theirs)
        which = match[2] if match.lastindex == 2 else None
        if which is None:
            # SD3's last block has no more than shift and scale of its prompt's side: 2 rows of each column, not 6.
            last = family == "sd3" and "norm1_context" in module and rows == 2 * columns
            return Place(name, swapped=last or name == "final_layer.adaLN_modulation.1")
        return Place(name, ("q", "k", "v", "mlp").index(which), QKV_MLP if name.endswith("linear1") else QKV)
    raise EditkitError(f"{module}: no layer of the published {family} network; export with --format lora")


def fused(layers: Mapping[str, Layer], family: str) -> dict[str, Layer]:
    """Layers with diffusers' names as those with their makers' names."""
    parts: dict[str, dict[int, Layer]] = {}
    places: dict[str, Place] = {}
    for name, layer in layers.items():
        found = place(name, family, len(layer.up), layer.down.shape[1])
        places[found.module] = found
        parts.setdefault(found.module, {})[found.part] = _swapped(layer) if found.swapped else layer
    return {module: _joined(own, places[module].sizes) for module, own in parts.items()}


def _swapped(layer: Layer) -> Layer:
    return Layer(torch.cat(layer.up.chunk(2)[::-1]), layer.down)


def _joined(parts: Mapping[int, Layer], sizes: tuple[int, ...]) -> Layer:
    """One layer of several that read the same; a part that is not there does not change."""
    if sizes == (1,):
        return parts[0]
    part, layer = next(iter(parts.items()))
    unit = len(layer.up) // sizes[part]
    ups: list[Tensor] = []
    before = 0
    whole = sum(own.up.shape[1] for own in parts.values())
    for part, size in enumerate(sizes):
        up = layer.up.new_zeros(size * unit, whole)
        if part in parts:
            rank = parts[part].up.shape[1]
            up[:, before : before + rank] = parts[part].up
            before += rank
        ups.append(up)
    return Layer(torch.cat(ups), torch.cat([parts[part].down for part in sorted(parts)]))
