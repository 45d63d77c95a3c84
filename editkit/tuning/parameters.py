"""Which parameters are trained: groups by diffusers' names, whole or as a LoRA."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from editkit.errors import EditkitError
from editkit.model.families.family import Family, rule_for

Group = Callable[[str], bool]
"""Whether the parameter of that name belongs to it."""
NOT_NOXATTN = ("attn2", "time_embedding", "add_embedding", "conv_norm_out", "conv_out")
UNET: Mapping[str, Group] = {
    "xattn": lambda name: "attn2" in name,
    "kv": lambda name: "attn2.to_k" in name or "attn2.to_v" in name,
    "selfattn": lambda name: "attn1" in name,
    "noxattn": lambda name: not any(part in name for part in NOT_NOXATTN),
    "blocks": lambda name: ".attentions." in name,
}
_PROMPTS_SIDE = r"transformer_blocks\.\d+\.attn\.(add_[qkv]_proj|to_add_out|norm_added)"
_ATTENTION = r"(single_)?transformer_blocks\.\d+\.attn2?\."
_BEFORE_AND_BEHIND = ("context_embedder", "time_text_embed", "norm_out", "proj_out")
JOINT: Mapping[str, Group] = {
    "xattn": lambda name: bool(re.match(_PROMPTS_SIDE, name)),
    "kv": lambda name: bool(re.match(r"transformer_blocks\.\d+\.attn\.add_[kv]_proj", name)),
    "selfattn": lambda name: bool(re.match(_ATTENTION, name) and not re.match(_PROMPTS_SIDE, name)),
    "noxattn": lambda name: not name.startswith(_BEFORE_AND_BEHIND) and not re.match(_PROMPTS_SIDE, name),
    "blocks": lambda name: "transformer_blocks." in name,
}
"""Of a transformer whose joint blocks let prompt and picture attend to each other: `xattn` is the prompt's side."""
GROUPS = (*UNET, "text", "full")
_WRITTEN = re.compile(r"(?:(?P<group>[a-z]+)\+)?(?:lora:(?P<rank>\d+))|(?P<whole>[a-z]+)")


@dataclass(frozen=True)
class Parameters:
    """A group, and the rank of a LoRA on it, or None to train it whole.

    `text` is what a closed-form edit changes: the projections that the prompt goes into first, of every stream.
    """

    group: str
    rank: int | None = None

    @classmethod
    def parse(cls, text: str) -> Parameters:
        """ "xattn", "lora:16" (on `xattn`), "noxattn+lora:16".

        Raises:
            EditkitError: none of these.
        """
        match = _WRITTEN.fullmatch(text)
        group = (match["whole"] or match["group"] or "xattn") if match else ""
        rank = int(match["rank"]) if match and match["rank"] else None
        if group not in GROUPS or rank == 0:
            raise EditkitError(
                f"--param: must be one of {', '.join(GROUPS)}, or lora:RANK, or GROUP+lora:RANK, but got {text!r}"
            )
        return cls(group, rank)

    def of(self, family: Family) -> Group:
        """Which parameters of a denoiser of that family these are."""
        if self.group == "text":
            return lambda name: rule_for(family, name.removesuffix(".bias")) is not None
        groups = UNET if family.component == "unet" else JOINT
        return {**groups, "full": lambda name: True}[self.group]


def choose(network: nn.Module, parameters: Parameters, family: Family) -> Mapping[str, nn.Parameter]:
    """Freeze all of `network` but the group, and return what is trained by name. A LoRA is put in first.

    Raises:
        EditkitError: the model has no such parameter.
    """
    network.requires_grad_(False)
    inside = parameters.of(family)
    if parameters.rank is not None:
        _add_lora(network, parameters, inside)
    else:
        for name, weight in network.named_parameters():
            weight.requires_grad_(inside(name))
    chosen = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not chosen:
        raise EditkitError(f"--param {parameters.group}: the model has no such parameter; use another group")
    return chosen


def _add_lora(network: Any, parameters: Parameters, inside: Group) -> None:
    """A peft adapter on every linear layer and convolution of the group. It starts at nothing: `up` is zero."""
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise EditkitError("--param lora: needs peft; pip install 'editkit[refine]'") from error
    modules = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and inside(f"{name}.weight")
    ]
    if not modules:
        raise EditkitError(f"--param {parameters.group}: the model has no such parameter; use another group")
    config: Any = LoraConfig(r=parameters.rank or 1, lora_alpha=parameters.rank or 1, target_modules=modules)
    network.add_adapter(config)
