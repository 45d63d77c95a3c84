"""What is not trained is kept in few bytes: the same passes, the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.model.placement import Placement, float8_layers
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.frozen import keep_as_multiplied, keep_in_float8
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.setup import beside, keep_frozen
from tests.refined_families import run_of
from tests.second_device import place, second_device

BF16 = partial(torch.autocast, "cpu", torch.bfloat16)


def networks_of(folder: Path, param: str, autocast: Any, dtype: torch.dtype | None, float8: bool = False) -> Denoisers:
    """A seeded student, a little trained, as a run has it in memory."""
    source = find(folder)
    denoiser = open_denoiser(source)
    denoiser.reads = torch.float32
    networks = Denoisers(denoiser.network, denoiser.predict, autocast, reads_masks=denoiser.reads_masks)
    if Parameters.parse(param).rank is None:
        networks.keep_teacher()
    stored = float8_layers(denoiser.pipe) if float8 else []
    torch.manual_seed(0)
    trained = choose(denoiser.network, Parameters.parse(param), source.family)
    made = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trained.values():
            weight += 0.05 * torch.randn(weight.shape, generator=made)
    keep_frozen(networks, dtype, stored)
    networks.prompts = denoiser.encode(["a church", "a dog"])[0]  # pyright: ignore
    networks.latents = torch.randn(2, *denoiser.latent_shape((16, 16)), generator=made)  # pyright: ignore
    return networks


def passed(networks: Any, checkpointing: bool = False) -> tuple[Tensor, Mapping[str, Tensor]]:
    """A loss of both networks, and every gradient: of the weights, and of the prompt."""
    if checkpointing:
        networks.network.enable_gradient_checkpointing()
    condition = type(networks.prompts[0]).joined(networks.prompts)
    condition = replace(condition, text=condition.text.clone().requires_grad_())
    t = torch.tensor([100.0, 700.0])
    student = networks.student(networks.latents, t, condition, training=True)
    teacher = networks.teacher(networks.latents, t, condition)
    loss = (student - networks.latents).square().sum() + teacher.square().sum()
    loss.backward()
    gradients = {name: weight.grad for name, weight in networks.network.named_parameters() if weight.requires_grad}
    assert condition.text.grad is not None and condition.text.grad.any()
    return loss.detach(), {**gradients, "the prompt": condition.text.grad}


@pytest.mark.parametrize(("name", "param"), [("sd1", "kv"), ("sdxl", "lora:2"), ("sd3", "lora:2"), ("flux1", "lora:2")])
def test_frozen_weights_in_bfloat16_change_no_bit_under_autocast(
    name: str, param: str, tiny_sd: Path, tiny_streams: Callable[[str], Path]
) -> None:
    folder = tiny_sd if name == "sd1" else tiny_streams(name)
    plain, small = (networks_of(folder, param, BF16, dtype) for dtype in (None, torch.bfloat16))
    loss, gradients = passed(small)
    wanted, theirs = passed(plain)
    assert loss == wanted > 0 and gradients.keys() == theirs.keys()
    assert all(gradients[key].equal(value) for key, value in theirs.items())
    assert {value.dtype for value in gradients.values()} == {torch.float32}
    for network in small.both:
        for own, module in network.named_modules():
            for weight in module.parameters(recurse=False):
                half = isinstance(module, nn.Linear | nn.Conv2d) and not weight.requires_grad
                assert weight.dtype == (torch.bfloat16 if half else torch.float32), own


def far(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Of all gradients together, relative."""
    off = sum(float((given[key] - value).square().sum()) for key, value in wanted.items())
    return (off / sum(float(value.square().sum()) for value in wanted.values())) ** 0.5


@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_gradients_pass_through_weights_in_float8(name: str, tiny_streams: Callable[[str], Path]) -> None:
    """In float32 they are those of a network with the rounded weights to 1e-5, with autocast and checkpoints to 5 %."""
    folder = tiny_streams(name)
    small, rounded = (networks_of(folder, "lora:2", nullcontext, None, float8) for float8 in (True, False))
    weights = dict(small.network.named_parameters())
    stored = {key for key, weight in weights.items() if weight.dtype == torch.float8_e4m3fn}
    assert stored and not any(weights[key].requires_grad for key in stored)
    with torch.no_grad():
        for key, weight in rounded.network.named_parameters():
            if key in stored:
                weight.copy_(weight.to(torch.float8_e4m3fn).float())
    loss, gradients = passed(small)
    wanted, theirs = passed(rounded)
    assert loss == pytest.approx(float(wanted), rel=1e-5) and far(gradients, theirs) < 1e-5
    half = networks_of(folder, "lora:2", BF16, torch.bfloat16, True)
    loss, gradients = passed(half, checkpointing=True)
    assert loss == pytest.approx(float(wanted), rel=0.05) and far(gradients, theirs) < 0.05


def test_float8_is_that_of_drawing(tiny_streams: Callable[[str], Path]) -> None:
    """The same numbers in the same layers, but for convolutions, and for what closed-form edits change."""
    folder = tiny_streams("flux1")
    drawn = open_denoiser(folder, placement=Placement(storage="fp8")).network
    trained = open_denoiser(folder)
    layers = float8_layers(trained.pipe)
    keep_as_multiplied(trained.network.requires_grad_(False), torch.bfloat16)
    keep_in_float8(layers)
    there = {key: weight for key, weight in drawn.named_parameters() if weight.dtype == torch.float8_e4m3fn}
    here = dict(trained.network.named_parameters())
    for key, weight in there.items():
        if key.endswith("weight"):
            assert here[key].dtype == weight.dtype and here[key].float().equal(weight.float())


def test_a_float8_layer_keeps_no_other_copy_of_its_weight() -> None:
    layer = nn.Linear(8, 4).requires_grad_(False)
    keep_in_float8([layer])
    kept: list[Tensor] = []
    with BF16(), torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda kept: kept):
        layer(torch.randn(3, 8, requires_grad=True))
    assert [saved.dtype for saved in kept if saved.shape == layer.weight.shape] == [torch.float8_e4m3fn]


def test_a_run_with_all_savings_keeps_its_start_exact(tiny_streams: Callable[[str], Path], tmp_path: Path) -> None:
    """The start is part of the result, to the bit, though the network holds it rounded; what was learnt is float32."""
    folder = tiny_streams("sd3")
    options = Options("uce", protect="none", lamb=1e-3)
    edit = editkit.erase(open_model(folder), ["church"], ["dog"], options=options, checked=False)
    given: dict[str, Any] = {"param": "text+lora:2", "search": "closed-form", "rate": 1e-2, "mixed_precision": "bf16"}
    tuned = run_of("sd3", folder, tmp_path / "out", edit, storage="fp8", gradient_checkpointing=True, **given)
    begun = edit.low_rank(open_model(folder).projections, 1e-7)
    assert begun.keys() <= tuned.factors.keys()
    for key, change in begun.items():
        whole, rank = tuned.factors[key], change.up.shape[1]
        assert whole.up.dtype == whole.down.dtype == torch.float32 and whole.up[:, rank:].any()
        assert whole.up[:, :rank].equal(change.float().up) and whole.down[:rank].equal(change.float().down)


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "flux1"])
def test_prompts_are_encoded_where_the_network_is_not(
    name: str, tiny_sd: Path, tiny_streams: Callable[[str], Path]
) -> None:
    """Encoders alone on another device, to the same rows; then they wait, but while `beside` needs them."""
    folder = tiny_sd if name == "sd1" else tiny_streams(name)
    denoiser = open_denoiser(folder)
    wanted, network = denoiser.encode(["a church"], "")[0][0], denoiser.network
    with second_device() as cuda:
        reader = denoiser.reader()
        reader.pipe.to(cuda)
        made = reader.encode(["a church"], "")[0][0]
        assert place(made.text).type == cuda and made.text.cpu().equal(wanted.text)
        assert {place(weight).type for weight in network.parameters()} == {"cpu"}
        reader.pipe.to("cpu")
        network.to(cuda)
        denoiser.placed = torch.device(cuda)
        with beside(denoiser):
            assert {place(weight).type for weight in denoiser.pipe.vae.parameters()} == {cuda}
            assert denoiser.encode(["a church"])[0][0].text.cpu().equal(wanted.text)
        assert {place(weight).type for weight in denoiser.pipe.text_encoder.parameters()} == {"cpu"}
        assert {place(weight).type for weight in network.parameters()} == {cuda}
    assert denoiser.network is network and denoiser.pipe.vae is not None


def test_float8_is_for_a_lora() -> None:
    with pytest.raises(EditkitError, match=r"--storage fp8: expected a LoRA, .* but --param is kv; give --param lora"):
        RefineOptions(param="kv", storage="fp8")
    assert RefineOptions(param="lora:2", storage="fp8").record["storage"] == "fp8"
