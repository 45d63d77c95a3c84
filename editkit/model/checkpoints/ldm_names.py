"""Tensor names in single-file checkpoints of SD 1.x, SD 2.x and SDXL, as WebUI and ComfyUI use them.

They keep those of the first latent diffusion code ("LDM": `model.diffusion_model.input_blocks.…`); editkit speaks
diffusers' names. The two are one layout, https://github.com/CompVis/stable-diffusion: a level has two blocks and a
downsampler on the way down, three blocks on the way up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from editkit.errors import EditkitError

LdmFamily = Literal["sd1", "sd2", "sdxl"]
UNET_PREFIX = "model.diffusion_model."
"""Before every UNet tensor of a whole checkpoint; files that hold a UNet alone mostly lack it."""

POOLED, POOLED_LDM = "add_embedding.linear_1.weight", "label_emb.0.0.weight"
"""SDXL's reader of the pooled text embedding."""

LEVELS: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {
    "sd1": (range(0, 3), range(1, 4)),
    "sd2": (range(0, 3), range(1, 4)),
    "sdxl": (range(1, 3), range(0, 2)),
}
"""Levels of the UNet that read the prompt, on the way down and on the way up."""

_READER = r"(transformer_blocks\.\d+\.attn2\.to_[kv]\.weight)"
_DIFFUSERS = re.compile(rf"(?:(down|up)_blocks\.(\d+)\.attentions\.(\d+)|mid_block\.attentions\.0)\.{_READER}")
_LDM = re.compile(rf"(?:(input|output)_blocks\.(\d+)\.1|middle_block\.1)\.{_READER}")

_TEXT_ENCODERS: tuple[tuple[str, LdmFamily | Literal["refiner"]], ...] = (
    ("conditioner.embedders.0.model.", "refiner"),
    ("conditioner.embedders.", "sdxl"),
    ("cond_stage_model.model.", "sd2"),
    ("cond_stage_model.transformer.", "sd1"),
)
_REFINER_LEVEL = "input_blocks.9.0.op.weight"
"""The refiner's UNet has a fourth level."""

_OTHERS = (
    (lambda name: "lora" in name, "a LoRA", "give the checkpoint that it is for"),
    (lambda name: name.startswith(("down_blocks.", "mid_block.")), "a UNet with diffusers' names", "give its folder"),
    (lambda name: name.startswith(("up.", "down.")), "an edit", "give the checkpoint that it is for"),
    (lambda name: "double_blocks." in name or "joint_blocks." in name, "a model of another family", "give its folder"),
    (lambda name: name.startswith(("first_stage_model.", "decoder.")), "a VAE", "give a whole checkpoint"),
)
"""What else people have as one file: how a tensor name gives it away, what it is, what to do."""


def to_ldm(name: str, family: str) -> str:
    """The checkpoint's name (without `UNET_PREFIX`) of a text projection with diffusers' name.

    Raises:
        EditkitError: an unknown family, or no text projection of it.
    """
    levels = text_levels(family)
    if family == "sdxl" and name == POOLED:
        return POOLED_LDM
    match = _DIFFUSERS.fullmatch(name)
    if match:
        way, level, layer, reader = match[1], int(match[2] or 0), int(match[3] or 0), match[4]
        if way is None:
            return f"middle_block.1.{reader}"
        if way == "down" and level in levels[0] and layer < 2:
            return f"input_blocks.{1 + 3 * level + layer}.1.{reader}"
        if way == "up" and level in levels[1] and layer < 3:
            return f"output_blocks.{3 * level + layer}.1.{reader}"
    raise EditkitError(f"{name}: no text projection of a {family} UNet in diffusers' names; expected attn2.to_k, to_v")


def to_diffusers(name: str, family: str) -> str:
    """diffusers' name of a text projection with the checkpoint's name, which may have `UNET_PREFIX`.

    Raises:
        EditkitError: an unknown family, or no text projection of it.
    """
    translated = diffusers_name(name, family)
    if translated is None:
        raise EditkitError(f"{name}: no text projection of a {family} checkpoint; expected attn2.to_k, attn2.to_v")
    return translated


def ldm_family(shapes: Mapping[str, Sequence[int]], path: Path | str = "this file") -> LdmFamily:
    """The family of a checkpoint with tensors of these names and shapes.

    Its text encoder says so. A UNet alone is known by the pooled embedding, which SDXL alone reads, and by the kind of
    its projections: matrices since SD 2.x, convolutions before.

    Raises:
        EditkitError: no such checkpoint: a VAE, a LoRA, a diffusers UNet, an edit, the SDXL refiner, something else.
    """
    unet = {name.removeprefix(UNET_PREFIX): shape for name, shape in shapes.items()}
    if not any(name.startswith("input_blocks.") for name in unet):
        raise EditkitError(_not_a_checkpoint(shapes, path))
    text = [family for prefix, family in _TEXT_ENCODERS if any(name.startswith(prefix) for name in shapes)]
    if "refiner" in text or (not text and POOLED_LDM in unet and _REFINER_LEVEL in unet):
        raise EditkitError(f"{path}: this is the SDXL refiner, expected a base model; edit the base instead")
    if text:
        return text[0]  # pyright: ignore[reportReturnType]
    if POOLED_LDM in unet:
        return "sdxl"
    entry = unet.get("input_blocks.1.1.proj_in.weight")
    if entry is None:
        raise EditkitError(f"{path}: its UNet is of no family with a known layout; expected SD 1.x, SD 2.x or SDXL")
    return "sd2" if len(entry) == 2 else "sd1"


def diffusers_name(name: str, family: str) -> str | None:
    """`to_diffusers`, or None where the tensor is no text projection."""
    levels = text_levels(family)
    name = name.removeprefix(UNET_PREFIX)
    if family == "sdxl" and name == POOLED_LDM:
        return POOLED
    match = _LDM.fullmatch(name)
    if match is None:
        return None
    way, number, reader = match[1], int(match[2] or 0), match[3]
    if way is None:
        return f"mid_block.attentions.0.{reader}"
    level, layer = divmod(number - 1 if way == "input" else number, 3)
    if way == "input" and level in levels[0] and layer < 2:
        return f"down_blocks.{level}.attentions.{layer}.{reader}"
    if way == "output" and level in levels[1]:
        return f"up_blocks.{level}.attentions.{layer}.{reader}"
    return None


def text_levels(family: str) -> tuple[Sequence[int], Sequence[int]]:
    """Those of `LEVELS`."""
    if family not in LEVELS:
        raise EditkitError(f"family {family!r}: single files must be of {', '.join(LEVELS)}; give a diffusers folder")
    return LEVELS[family]


def _not_a_checkpoint(names: Iterable[str], path: Path | str) -> str:
    expected = "expected a checkpoint of SD 1.x, SD 2.x or SDXL (input_blocks.…)"
    for is_one, kind, remedy in _OTHERS:
        if any(is_one(name) for name in names):
            return f"{path}: this is {kind}, {expected}; {remedy}"
    return f"{path}: {expected}, found {next(iter(names), 'no tensors')}; give another file"
