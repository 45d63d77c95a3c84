"""The planned memory of drawing against what is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from editkit.drawing import plan, sampler
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.plan import plan_drawing, two_steps, weight_bytes
from editkit.drawing.sampling import Sampling
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.placement import Placement, float8_layers
from tests import tiny_llm_pipelines, tiny_pipelines
from tests.cli import run
from tests.test_memory import allocated

GB = 1e9


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> Callable[[str], Path]:
    """Tiny models. Their decoders have no attention: a processor's takes half a megabyte of its own, which is much here
    and nothing elsewhere."""
    base = tmp_path_factory.mktemp("planned")

    @cache
    def made(name: str) -> Path:
        if name == "sd1":
            return tiny_sd
        saving = tiny_llm_pipelines.save if name in ("sana", "lumina2") else tiny_pipelines.save
        folder = saving(name, base / name)
        if name in ("sdxl", "sd3", "flux1"):
            plain = {"block_out_channels": (16,), "norm_num_groups": 8, "shift_factor": 0.0}
            AutoencoderKL(**plain, latent_channels=4, mid_block_add_attention=False).save_pretrained(folder / "vae")
        return folder

    return made


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("sdxl", None), ("sdxl", "bfloat16"), ("sd3", "bfloat16"), ("flux1", "bfloat16"), ("sana", None)],
)
def test_a_plan_is_what_a_small_model_takes(name: str, dtype: str | None, folder_of: Callable[[str], Path]) -> None:
    """Component by component: the weights to the byte, the peak of each pass within a tenth."""
    settings: dict[str, Any] = {"size": (64, 64), "dtype": dtype, "steps": 2, "batch": 4}
    planned = plan_drawing(folder_of(name), "cpu", **settings)
    sampling = Sampling.for_model(find(folder_of(name)), **settings)
    denoiser = open_denoiser(folder_of(name), placement=sampling.placement)
    for part in planned.parts:
        weights = getattr(denoiser.pipe, part.name).parameters()
        assert part.weights == sum(weight.numel() * weight.element_size() for weight in weights)
    shape = (4, *denoiser.latent_shape(sampling.size))
    with torch.no_grad():
        network = allocated(lambda: two_steps(denoiser, shape, sampling))
        measured = [network, allocated(lambda: denoiser.decode(torch.randn(shape)))]
    assert [part.activations for part in planned.parts[-2:]] == [pytest.approx(each, rel=0.1) for each in measured]
    assert planned.size == (64, 64) and planned.itself == 0
    assert planned.total == sum(part.weights for part in planned.parts) + max(
        part.activations for part in planned.parts
    )


@pytest.mark.parametrize("name", ["sdxl", "flux1", "sana"])
def test_float8_is_counted_where_it_is_kept(name: str, folder_of: Callable[[str], Path]) -> None:
    small = open_denoiser(folder_of(name), placement=Placement(storage="fp8"))
    stored = {key for key, weight in small.network.named_parameters() if weight.dtype == torch.float8_e4m3fn}
    layers = {id(layer) for layer in float8_layers(small.pipe)}
    told = {
        f"{at}.{key}"
        for at, layer in small.network.named_modules()
        for key, _ in layer.named_parameters(recurse=False)
        if id(layer) in layers
    }
    assert stored == told
    network = plan_drawing(folder_of(name), "cpu", storage="fp8", size=(64, 64)).parts[-2]
    assert network.weights == sum(weight.numel() * weight.element_size() for weight in small.network.parameters())


def test_savings_save(folder_of: Callable[[str], Path]) -> None:
    def total(**given: Any) -> int:
        return plan_drawing(
            folder_of("sdxl"), "cuda", **{"batch": 2, "size": (64, 64), "dtype": "bfloat16"} | given
        ).total

    whole = total()
    assert total(dtype="float32") > whole > total(offload="model") > total(offload="sequential")
    assert total(storage="fp8") < whole < total(batch=4) and total(batch=1, guidance=1.0) < total(batch=1)
    assert total(pictures=1) == total(batch=1)
    assert total(tile_vae=True, size=(64, 64)) <= whole


def test_the_weights_of_a_layer_are_not_those_of_its_parts() -> None:
    layers = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 2, bias=False)))
    assert weight_bytes(layers, {}) == (4 * (32 + 8 + 16), 4 * 40, 0)
    stored = {id(layers[0].weight): 32, id(layers[0].bias): 8}
    assert weight_bytes(layers, stored) == (40 + 4 * 16, 4 * 40, 4 * 40)


def test_a_model_is_planned_for_before_its_weights_are_there(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """By the command line, without a GPU; and offloading a processor is refused here as there."""
    for path in folder_of("flux1").rglob("*.json"):
        (tmp_path / path.relative_to(folder_of("flux1"))).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.relative_to(folder_of("flux1"))).write_bytes(path.read_bytes())
    how = ["--model", tmp_path, "--size", "64x64", "--prompt", "a church", "--out", "x.png", "--plan"]
    said = run("generate", *how, "--device", "cuda", "--offload", "model", "--dtype", "bfloat16", cwd=tmp_path)
    assert said.startswith("planned peak on cuda, bfloat16, offload model, 1 picture of 64x64: ")
    assert [line.split()[0] for line in said.splitlines()[1:]] == [
        "text_encoder", "text_encoder_2", "transformer", "vae", "CUDA",
    ]  # fmt: skip
    assert "--offload model: expected a GPU" in run(
        "generate", *how, "--device", "cpu", "--offload", "model", cwd=tmp_path, code=1
    )
    assert not (tmp_path / "x.png").exists()


@pytest.mark.usefixtures("exact")
def test_a_network_that_reads_how_long_prompts_are_is_planned_for(folder_of: Callable[[str], Path]) -> None:
    settings: dict[str, Any] = {"size": (128, 128), "batch": 2}
    planned = plan_drawing(folder_of("lumina2"), "cpu", **settings)
    sampling = Sampling.for_model(find(folder_of("lumina2")), **settings)
    denoiser = open_denoiser(folder_of("lumina2"))
    with torch.no_grad():
        measured = allocated(lambda: two_steps(denoiser, (2, *denoiser.latent_shape(sampling.size)), sampling))
    assert planned.parts[-2].name == "transformer"
    assert planned.parts[-2].activations == pytest.approx(measured, rel=0.1)


def test_a_network_that_reads_values_is_told_of(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lumina-Image 2 does where nobody answers it."""
    monkeypatch.setattr(plan, "Lengths", lambda tokens: nullcontext())
    with pytest.raises(EditkitError, match="--plan: Lumina-Image 2 reads values of its tensors"):
        plan_drawing(folder_of("lumina2"), "cpu", size=(128, 128))


CONFIGS: dict[str, dict[str, Any]] = {
    "transformer": {
        "_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 64, "num_layers": 19,
        "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
        "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
    },
    "vae": {
        "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 16, "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159,
        "use_quant_conv": False, "use_post_quant_conv": False, "force_upcast": True,
    },
    "text_encoder": {
        "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768,
    },
    "text_encoder_2": {
        "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
}  # fmt: skip
"""Of FLUX.1 dev, what its weights and passes have their shapes from."""


@pytest.fixture(scope="module")
def flux_dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux-dev")
    index = {
        "_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }  # fmt: skip
    for name, config in CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_flux_plans_under_22_gb_with_its_weights_in_float8(flux_dev: Path) -> None:
    """In bfloat16 its network alone is 23.8 GB: that is for a card of 32."""

    whole = plan_drawing(flux_dev, "cuda", 1, dtype="bfloat16", offload="model")
    small = plan_drawing(flux_dev, "cuda", 1, storage="fp8", offload="model")
    weights = {part.name: part.weights for part in whole.parts}
    assert weights["transformer"] == pytest.approx(2 * 11.90e9, rel=0.005)
    assert weights["text_encoder_2"] == pytest.approx(2 * 4.762e9, rel=0.005)
    assert weights["vae"] == pytest.approx(2 * 83.8e6, rel=0.01)
    assert 23.8 * GB < whole.total < 32 * GB and small.total < 22 * GB
    layers, nothing = (replace(whole, sampling=replace(whole.sampling, offload=how)) for how in ("sequential", "none"))
    plans = {"92.4": plan_drawing(flux_dev, "cuda", 1), "36.0": nothing, "24.9": whole, "16.4": small, "2.2": layers}
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "gpu.md").read_text(encoding="utf-8")
    assert [said for said, plan in plans.items() if f"{plan.total / GB:.1f}" != said or f"| {said}" not in page] == []
