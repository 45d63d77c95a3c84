"""What a family of the table is made of: the rules of its denoiser, and the modules that are refused.

This file imports neither torch nor diffusers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from editkit.errors import EditkitError


@dataclass(frozen=True)
class Rule:
    """Linear modules that read one text stream. An edit makes `W M` of their `W` and leaves the bias.

    Attributes:
        stream: "text" for the tokens of a prompt, "pooled" for one vector per prompt.
        modules: regular expression for whole names of modules in the denoiser.
        kind: "raw" or "static".
        width: columns of the text in the input, in the released model.
        out: rows, in the released model.
        count: modules in the released model.
        bias: whether they have one.
        before: static: regular expression for the modules between text encoder and these, whose inputs are the keys.
        shared: all modules have the same keys, so one map serves them. Otherwise each layer has its own keys and map.
        leading: the text is the first columns of the input, constants (sizes, style) the rest: a map of width `d`
            changes `W[:, :d]`.
    """

    stream: Literal["text", "pooled"]
    modules: str
    kind: Literal["raw", "static"]
    width: int
    out: tuple[int, ...]
    count: int
    bias: bool
    before: str | None = None
    shared: bool = True
    leading: bool = False

    @property
    def label(self) -> str:
        """`modules` for people, with `*` for a number."""
        return _label(self.modules)


@dataclass(frozen=True)
class Refusal:
    """Modules that look like text projections and must not be edited, and why."""

    modules: str
    why: str

    @property
    def label(self) -> str:
        """`modules` for people, with `*` for a number."""
        return _label(self.modules)


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name, title: short and full name.
        released: the model whose widths and counts the rules give.
        component: folder of the denoiser in a pipeline.
        denoiser: its class in diffusers.
        pipelines: classes of pipelines, as `_class_name` in `model_index.json`, today's names and former ones.
        rules: what an edit changes.
        refused: what it must not, although the name suggests it.
        second: folder of a second denoiser that some releases have: the same rules, with static keys of its own.
        encoders: of a family from another package: the family whose prompts are encoded alike, or `module:function`
            from a `Source` to its streams (`editkit.model.encoders.streams`); empty where its prompts are not encoded.
    """

    name: str
    title: str
    released: str
    component: str
    denoiser: str
    pipelines: tuple[str, ...]
    rules: tuple[Rule, ...]
    refused: tuple[Refusal, ...] = ()
    second: str | None = None
    encoders: str = ""

    @property
    def summary(self) -> str:
        """A line of a listing."""
        return f"{self.title}: in {self.released}, {sum(rule.count for rule in self.rules)} modules are edited"


def _label(modules: str) -> str:
    return modules.replace(r"\d+", "*").replace("\\", "")


def rule_for(family: Family, name: str) -> Rule | None:
    """The rule of a module, or of the tensor `<module>.weight`. A bias has none: it is not edited."""
    module = name.removesuffix(".weight")
    return next((rule for rule in family.rules if re.fullmatch(rule.modules, module)), None)


def check_editable(family: Family, name: str) -> Rule:
    """The rule of a module, or of the tensor `<module>.weight`.

    Raises:
        EditkitError: it has none; the message says why, and what to edit instead.
    """
    rule = rule_for(family, name)
    if rule is not None:
        return rule
    editable = ", ".join(rule.label for rule in family.rules)
    raise EditkitError(f"{family.title}: {name} cannot be edited in closed form: {_why(family, name)}; edit {editable}")


def _why(family: Family, name: str) -> str:
    module = name.removesuffix(".weight").removesuffix(".bias")
    if name.endswith(".bias") and rule_for(family, module):
        return "an edit changes the weight of this module and leaves its bias"
    for refused in family.refused:
        if re.fullmatch(refused.modules, module):
            return refused.why
    if any(rule.before and re.match(rf"({rule.before})(\.|$)", module) for rule in family.rules):
        return "it stands before the projections that are edited"
    return (
        "it is none of the projections that read the prompt first, and behind those nearly every input depends on "
        "latent or timestep too: there is no fixed key"
    )
