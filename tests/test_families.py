"""The rules of every family against a two-latent probe of a tiny random model, and against the released architecture.

The probe runs a denoiser with two latents and timesteps at the same prompt, and with another prompt. A linear module
whose input follows the prompt is *raw* (its input is the text embedding itself, with or without constants behind it),
*static* (its input is the same for both latents) or *dynamic*.

The rules and `OTHERS` together must be exactly the raw and static modules of a family. Rules are the projections that
read the prompt first, or those behind the modules named in `before`. What is raw or static and not in a rule has to be
inside `before`, or to read what a module of a rule gives, where an edit arrives by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from editkit.edits.gram import gram_matrix
from editkit.edits.method import Options
from editkit.edits.problem import Problem, Rows
from editkit.errors import EditkitError
from editkit.model.families.family import Family, Rule, check_editable, rule_for
from editkit.model.families.table import FAMILIES, by_name
from tests.tiny_families import TINY, Text, Tiny, inputs_of, linears

OPTIONS = Options("uce", protect="none", tokens="all", lamb=1e-9)
TOLERANCE = 1e-5
"""Distance of an edited output to what it should be, as a share of the distance between two prompts' outputs."""
BY_NAME = {tiny.name: tiny for tiny in TINY}

_CAPTION_PROJECTION = {"caption_projection.linear_1": "raw", "caption_projection.linear_2": "static"}
_REFINER = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", *(f"feed_forward.linear_{i}" for i in (1, 2, 3)))
OTHERS: dict[str, dict[str, str]] = {
    "sdxl": {"add_embedding.linear_2": "static"},
    "sd3": {"time_text_embed.text_embedder.linear_2": "static"},
    "flux1": {"time_text_embed.text_embedder.linear_2": "static"},
    "pixart": _CAPTION_PROJECTION,
    "sana": _CAPTION_PROJECTION,
    "ltx": _CAPTION_PROJECTION,
    "wan": {f"condition_embedder.text_embedder.linear_{i}": kind for i, kind in ((1, "raw"), (2, "static"))},
    "hunyuandit": {
        "text_embedder.linear_1": "raw",
        "text_embedder.linear_2": "static",
        "time_extra_emb.extra_embedder.linear_2": "static",
    },
    "lumina2": {f"context_refiner.0.{name}": "static" for name in _REFINER},
}
"""Raw and static modules that no rule names; families that are not listed have none."""
UNSEEN = {"hunyuandit": {f"time_extra_emb.pooler.{name}_proj" for name in "qkvc"}}
"""Linear modules whose weights are used without calling them, so that no hook sees their input."""


@dataclass(frozen=True)
class Probe:
    """Modules whose input follows the prompt, by kind, and linear modules that were never called."""

    fixed: dict[str, str]
    dynamic: frozenset[str]
    unseen: frozenset[str]


@pytest.fixture(params=TINY, ids=lambda tiny: tiny.name)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return request.param


@cache
def probe(name: str) -> Probe:
    tiny = BY_NAME[name]
    model = tiny.build()
    seen, moved, other = (record(tiny, model, *which) for which in ((0, 0), (1, 0), (0, 1)))
    reads = {name for name in seen if not same(seen[name], other[name])}
    fixed = {name for name in reads if same(seen[name], moved[name])}
    texts = tiny.text(0)
    kinds = {name: "raw" if is_raw(seen[name], other[name], texts) else "static" for name in fixed}
    return Probe(kinds, frozenset(reads - fixed), frozenset(linears(model)) - frozenset(seen))


def record(tiny: Tiny, model: nn.Module, noise: int, text: int) -> dict[str, list[Tensor]]:
    """Module name → inputs, under one of the latents and one of the prompts."""
    with inputs_of(model) as seen:
        tiny.draw(model, tiny.noise(noise), tiny.text(text))
    return seen


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(first, second, strict=True))


def is_raw(given: list[Tensor], other: list[Tensor], text: Text) -> bool:
    """Whether every call got the rows of one encoder, and behind them at most columns that no prompt changes."""
    return all(
        any(
            torch.equal(rows[:, : words.shape[-1]], words.flatten(0, -2))
            and torch.equal(rows[:, words.shape[-1] :], others[:, words.shape[-1] :])
            for words in (text.tokens, text.pooled, text.second)
            if words is not None and rows.shape[0] == words.flatten(0, -2).shape[0]
        )
        for rows, others in ((a.flatten(0, -2), b.flatten(0, -2)) for a, b in zip(given, other, strict=True))
    )


def modules_of(rule: Rule, model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in linears(model).items() if re.fullmatch(rule.modules, name)}


def text_columns(tiny: Tiny, rule: Rule, model: nn.Module) -> int:
    """How many columns of the rule's inputs follow the prompt: all, or the leading ones."""
    name = next(iter(modules_of(rule, model)))
    first, second = (record(tiny, model, 0, text)[name][0].flatten(0, -2) for text in (0, 1))
    follows = (first != second).any(0)
    count = int(follows.sum())
    assert follows[:count].all()
    assert rule.leading == (count < len(follows))
    return count


@torch.no_grad()
def edit(tiny: Tiny, model: nn.Module, source: int, target: int, kept: int) -> None:
    """`W M` for all modules of the rules: prompt `source` is to be read as `target`, prompt `kept` as before."""
    keys = {text: record(tiny, model, 0, text) for text in (source, target, kept)}
    for rule in tiny.family.rules:
        width = text_columns(tiny, rule, model)
        names = list(modules_of(rule, model))
        for group in [names] if rule.shared else [[name] for name in names]:
            rows = {text: given[group[0]][0].flatten(0, -2)[:, :width] for text, given in keys.items()}
            weights = {name: model.get_parameter(f"{name}.weight")[:, :width] for name in group}
            concept = (Rows(rows[source], rows[target]),)
            problem = Problem(concept, rows[kept], weights, gram_matrix(weights.values(), width), None)
            (edit_map,) = OPTIONS.solve(problem).maps.values()
            for weight in weights.values():
                weight.copy_(edit_map.weight(weight))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@contextmanager
def hooked(model: nn.Module, names: list[str], hook: Callable[[Any, Any, Any], Any]) -> Iterator[None]:
    """`hook(module, given, output)` on these modules while the context lasts; what it returns replaces the output."""
    hooks = [model.get_submodule(name).register_forward_hook(hook) for name in names]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def reached(tiny: Tiny, model: nn.Module, sources: list[str]) -> set[str]:
    """Linear modules whose input moves when the output of the modules `sources` does."""
    usual = record(tiny, model, 0, 0)
    with hooked(model, sources, lambda _module, _given, out: out + torch.linspace(0, 1, out.shape[-1])):
        moved = record(tiny, model, 0, 0)
    return {name for name in usual if not same(usual[name], moved[name])}


def outputs_of(tiny: Tiny, model: nn.Module, names: list[str]) -> list[Tensor]:
    """What these modules give, as rows."""
    outputs: list[Tensor] = []
    with hooked(model, names, lambda _module, _given, out: outputs.append(out.flatten(0, -2))):
        tiny.draw(model, tiny.noise(0), tiny.text(0))
    return outputs


def inside(names: str | None, module: str) -> bool:
    """Whether a module is one of `names`, or part of one."""
    return names is not None and re.match(rf"({names})(\.|$)", module) is not None


def distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).norm())


def test_every_family_has_a_tiny_model() -> None:
    assert {tiny.family.name for tiny in TINY} == {family.name for family in FAMILIES}


def test_rules_and_others_are_the_raw_and_static_modules_that_the_probe_finds(tiny: Tiny) -> None:
    model, probed, others = tiny.build(), probe(tiny.name), OTHERS.get(tiny.family.name, {})
    ruled = {name: rule.kind for rule in tiny.family.rules for name in modules_of(rule, model)}
    assert ruled.keys().isdisjoint(others)
    assert probed.fixed == ruled | others
    assert probed.unseen == UNSEEN.get(tiny.family.name, set())


def test_others_are_before_the_rules_or_behind_them(tiny: Tiny) -> None:
    model, rules = tiny.build(), tiny.family.rules
    behind = reached(tiny, model, [name for rule in rules for name in modules_of(rule, model)])
    for name in OTHERS.get(tiny.family.name, {}):
        assert (name in behind) != any(inside(rule.before, name) for rule in rules), name
    for name in UNSEEN.get(tiny.family.name, set()):
        assert any(inside(rule.before, name) for rule in rules), name


def test_static_keys_are_what_the_last_module_before_gives(tiny: Tiny) -> None:
    """In HunyuanDiT only the second encoder's tokens, the last ones, come through a module."""
    model = tiny.build()
    for rule in tiny.family.rules:
        between = [name for name, _ in model.named_modules() if rule.before and re.fullmatch(rule.before, name)]
        assert bool(between) == (rule.kind == "static")
        assert all(reached(tiny, model, [name]) & modules_of(rule, model).keys() for name in between)
        given, keys = outputs_of(tiny, model, between), record(tiny, model, 0, 0)
        for name in modules_of(rule, model) if between else ():
            key = keys[name][0].flatten(0, -2)
            last = [rows for rows in given if torch.equal(key[-len(rows) :, : rows.shape[1]], rows)]
            assert last and (len(last[0]) == len(key) or tiny.name == "hunyuandit"), name


def test_the_released_architecture_has_the_counts_widths_and_biases_of_the_rules(tiny: Tiny) -> None:
    model, small = tiny.build_released(), tiny.build()
    for rule in tiny.family.rules:
        modules = modules_of(rule, model).values()
        assert len(modules) == rule.count
        assert {module.out_features for module in modules} == set(rule.out)
        assert {module.bias is not None for module in (*modules, *modules_of(rule, small).values())} == {rule.bias}
        for module in modules:
            assert module.in_features == rule.width or (rule.leading and module.in_features > rule.width)


def test_keys_are_shared_by_all_modules_of_a_rule_that_says_so(tiny: Tiny) -> None:
    model = tiny.build()
    keys = record(tiny, model, 0, 0)
    for rule in tiny.family.rules:
        first, *rest = modules_of(rule, model)
        assert rule.shared == all(same(keys[first], keys[name]) for name in rest)


def test_preserving_alone_is_a_no_op(tiny: Tiny) -> None:
    model = tiny.build()
    usual, weights = tiny.draw(model, tiny.noise(0), tiny.text(0)), weights_of(model)
    edit(tiny, model, source=0, target=0, kept=1)
    assert all(torch.equal(value, weights[name]) for name, value in weights_of(model).items())
    assert torch.equal(tiny.draw(model, tiny.noise(0), tiny.text(0)), usual)


def test_an_edit_moves_the_output_of_a_prompt_to_that_of_its_guide(tiny: Tiny) -> None:
    model = tiny.build()
    usual = {(n, text): tiny.draw(model, tiny.noise(n), tiny.text(text)) for n in (0, 1) for text in range(3)}
    weights = weights_of(model)
    edit(tiny, model, source=0, target=1, kept=2)
    changed = {name for name, value in weights_of(model).items() if not torch.equal(value, weights[name])}
    assert changed == {f"{name}.weight" for rule in tiny.family.rules for name in modules_of(rule, model)}
    for n in (0, 1):
        apart = distance(usual[n, 0], usual[n, 1])
        for text, like in ((0, 1), (2, 2)):
            assert distance(tiny.draw(model, tiny.noise(n), tiny.text(text)), usual[n, like]) < TOLERANCE * apart


def test_dynamic_modules_are_refused(tiny: Tiny) -> None:
    dynamic = probe(tiny.name).dynamic
    assert dynamic
    for name in dynamic:
        assert rule_for(tiny.family, name) is None
        with pytest.raises(EditkitError, match=r"cannot be edited in closed form: .* no fixed key.*; edit "):
            check_editable(tiny.family, f"{name}.weight")


def test_modules_of_the_rules_are_accepted_and_other_fixed_ones_refused(tiny: Tiny) -> None:
    for rule in tiny.family.rules:
        for name in modules_of(rule, tiny.build()):
            assert check_editable(tiny.family, name) is check_editable(tiny.family, f"{name}.weight") is rule
            assert rule_for(tiny.family, f"{name}.bias") is None
            with pytest.raises(EditkitError, match="leaves its bias"):
                check_editable(tiny.family, f"{name}.bias")
    for name in OTHERS.get(tiny.family.name, {}):
        before = any(inside(rule.before, name) for rule in tiny.family.rules)
        with pytest.raises(EditkitError, match="stands before" if before else "no fixed key"):
            check_editable(tiny.family, name)


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.name != "wan"], ids=lambda family: family.name
)
def test_what_is_refused_by_name_is_dynamic(family: Family) -> None:
    probes = [probe(tiny.name) for tiny in TINY if tiny.family is family]
    for refused in family.refused:
        assert any(re.fullmatch(refused.modules, name) for probed in probes for name in probed.dynamic)
        assert not any(re.fullmatch(refused.modules, name) for probed in probes for name in probed.fixed)
        assert "no fixed key" in refused.why


def test_wan_refuses_the_keys_of_the_picture_that_is_animated() -> None:
    wan = by_name("wan")
    names = linears(BY_NAME["wan"].build_released(image_dim=1280, added_kv_proj_dim=5120))
    added = [name for name in names if name.endswith(("add_k_proj", "add_v_proj"))]
    assert len(added) == 80
    for name in added:
        with pytest.raises(EditkitError, match="reads the picture that is animated, not the prompt"):
            check_editable(wan, name)


def test_the_attn2_trap_of_sd35() -> None:
    """SD 3.5 medium has `attn2.to_k` and `attn2.to_v` as a UNet has, but they read the picture."""
    sd3, tiny = by_name("sd3"), BY_NAME["sd3.5"]
    assert {f"transformer_blocks.0.attn2.to_{letter}" for letter in "kv"} <= probe(tiny.name).dynamic
    trap = [name for name in linears(tiny.build_released()) if re.search(r"attn2\.to_[kv]$", name)]
    assert len(trap) == 26
    for name in trap:
        assert rule_for(sd3, f"{name}.weight") is None
        with pytest.raises(EditkitError) as raised:
            check_editable(sd3, f"{name}.weight")
        assert str(raised.value) == (
            f"Stable Diffusion 3: {name}.weight cannot be edited in closed form: in SD 3.5, attn2 is attention of the "
            "picture to itself and not to the text, its input depends on latent and timestep: there is no fixed key, "
            "and an edit would ruin the model; edit context_embedder, time_text_embed.text_embedder.linear_1"
        )
