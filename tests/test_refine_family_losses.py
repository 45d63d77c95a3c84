"""The objectives on families with several text streams against the equations, row by row in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.model.editable import open_model
from editkit.model.families.table import by_name
from editkit.tuning.parameters import GROUPS, Parameters
from editkit.tuning.prompts import encode_prompts
from editkit.tuning.search.closed_form import damage
from tests.refined_families import FAMILIES, Setting


@pytest.mark.parametrize(
    ("name", "objective", "param"), [("sdxl", "ap", "lora:2"), ("sd3", "esd", "lora:2"), ("flux1", "ap", "full")]
)
def test_values_and_gradients_are_those_of_the_equations(
    name: str, objective: str, param: str, tiny_streams: Callable[[str], Path]
) -> None:
    s = Setting(name, tiny_streams(name), param)
    loss, wanted = s.package(objective), s.reference(objective)
    assert torch.allclose(loss, wanted, rtol=1e-6) and float(wanted.detach().min()) > 0
    weights = list(s.trained.values())
    mine, theirs = (torch.autograd.grad(value.sum(), weights, allow_unused=True) for value in (loss, wanted))
    reached = 0
    for key, first, other in zip(s.trained, mine, theirs, strict=True):
        assert (first is None) == (other is None), key
        if first is not None and other is not None:
            assert torch.allclose(first, other, rtol=1e-4, atol=1e-5 * float(other.abs().max())), key
            reached += bool(other.abs().max() > 0)
    assert reached > len(weights) / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_the_damage_of_a_candidate_counts_every_stream(name: str, tiny_streams: Callable[[str], Path]) -> None:
    denoiser, model = open_denoiser(tiny_streams(name)), open_model(tiny_streams(name))
    made = torch.Generator().manual_seed(0)
    changes = {key: (W, W + 0.1 * torch.randn(W.shape, generator=made)) for key, W in model.projections.items()}
    prompts = ["a church", "a dog"]
    read = Condition.joined(denoiser.encode(prompts)[0])
    for number, prompt in enumerate(prompts):
        streams = {stream.rule.stream: stream for stream in model.streams}
        moved = whole = 0.0
        for field, stream in streams.items():
            rows = getattr(read, field)[number].double().view(-1, stream.width)
            for key in stream.inputs:
                before, now = (value[:, : stream.width].double() for value in changes[key])
                for row in rows:
                    moved += float(((now - before) @ row).square().sum())
                    whole += float((before @ row).square().sum())
        assert float(damage(read, changes, denoiser.streams)[number]) == pytest.approx(moved / whole, rel=1e-4), prompt
    assert set(denoiser.streams) == {"text", "pooled"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_mixture_of_prompts_is_one_of_every_stream(name: str, tiny_streams: Callable[[str], Path]) -> None:
    denoiser = open_denoiser(tiny_streams(name))
    prompts = encode_prompts(denoiser, ["church"], [""], [["dog", "mosque"]], ["a {}"])
    none = torch.zeros(1, dtype=torch.long)
    mixed = prompts.mixed(none, none, torch.tensor([[0.25, 0.75]]))
    dog, mosque = (Condition.joined(denoiser.encode([text])[0]) for text in ("a dog", "a mosque"))
    assert torch.allclose(mixed.text, 0.25 * dog.text + 0.75 * mosque.text, atol=1e-5)
    assert mixed.pooled is not None and dog.pooled is not None and mosque.pooled is not None
    assert torch.allclose(mixed.pooled, 0.25 * dog.pooled + 0.75 * mosque.pooled, atol=1e-5)


def test_groups_of_a_joint_transformer_part_its_prompts_side_from_the_rest() -> None:
    """Counted on the released sizes. In SD 3.5 `attn2` is attention of the picture to itself."""
    dual = tuple(range(13))
    with torch.device("meta"):
        flux: Any = diffusers.FluxTransformer2DModel()
        sd35: Any = diffusers.SD3Transformer2DModel(num_layers=24, dual_attention_layers=dual, qk_norm="rms_norm")
    # Four layers with biases and two norms a block; the last block of SD3 says nothing more of the prompt.
    for family, network, count in (("flux1", flux, 19 * 10), ("sd3", sd35, 24 * 10 - 2)):
        names = [name for name, _ in network.named_parameters()]
        within = {group: {*filter(Parameters(group).of(by_name(family)), names)} for group in GROUPS}
        assert len(within["xattn"]) == count and within["kv"] < within["xattn"]
        assert not within["xattn"] & within["selfattn"] and not within["xattn"] & within["noxattn"]
        attention = {name for name in names if ".attn." in name or ".attn2." in name}
        assert within["xattn"] | within["selfattn"] == attention
        outside = {*names} - within["xattn"] - within["noxattn"]
        assert within["text"] < outside and within["full"] == {*names} and len(within["text"]) == 4
        assert {name.split(".")[0] for name in outside} == {
            "context_embedder",
            "time_text_embed",
            "norm_out",
            "proj_out",
        }
