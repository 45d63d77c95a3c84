"""The planned memory of a run against what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from editkit.drawing.pipelines import open_denoiser
from editkit.model.checkpoints.source import Source, find
from editkit.model.families.table import by_name
from editkit.model.memory import LiveBytes
from editkit.model.pipeline import load
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.memory import plan_memory, step_passes
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose

SMALL: dict[str, Any] = {"batch": 2, "mixed_precision": "no", "sampling_steps": 4}


SD14: dict[str, dict[str, Any]] = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 4,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
    },
}


def sd14(folder: Path) -> Source:
    """A folder with the configuration of SD 1.4 and no weight."""
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"]}
    index |= {"scheduler": ["diffusers", "PNDMScheduler"]}
    for name, config in SD14.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return find(folder)


def allocated(run: Any) -> int:
    """The most that the allocator of the processor gave out at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    now = peak = 0
    for event in profiled.profiler.kineto_results.events():  # pyright: ignore
        if event.name() == "[memory]":
            now += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize("given", [{"objective": "ap"}, {"objective": "esd", "param": "full"}, {"objective": "hide"}])
def test_a_plan_is_what_a_small_model_takes(given: dict[str, Any], tiny_sd: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    options = RefineOptions.of(**{**SMALL, **given})
    source = find(tiny_sd)
    denoiser = open_denoiser(source)
    unet = denoiser.network
    unet.set_attn_processor(AttnProcessor())
    networks = Denoisers(unet, denoiser.predict)
    networks.keep_teacher()
    choose(unet, Parameters.parse(options.param), source.family)
    measured = max(allocated(step) for step in step_passes(denoiser, networks, options))
    planned = plan_memory(source, options, "cpu")
    trained = sum(weight.numel() for weight in unet.parameters() if weight.requires_grad)
    key = 10 * 256 if options.loss.has_key else 0
    assert planned.parts["gradients"] == 4 * (trained + key) and planned.parts["optimizer"] == 8 * (trained + key)
    assert planned.parts["teacher"] == 4 * sum(weight.numel() for weight in unet.parameters())
    assert planned.parts["activations"] + 4 * (trained + key) == pytest.approx(measured, rel=0.15)


def test_a_plan_holds_what_is_saved_for_the_backward_pass(tiny_sd: Path) -> None:
    """Summed from the graph itself: every storage once, weights left out."""
    from diffusers.models.attention_processor import AttnProcessor

    unet = load(tiny_sd).unet
    unet.set_attn_processor(AttnProcessor())
    choose(unet, Parameters.parse("full"), by_name("sd1"))
    weights = {weight.untyped_storage()._cdata for weight in unet.parameters()}
    saved: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage(), tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = unet(torch.randn(4, 4, 8, 8), torch.zeros(4, dtype=torch.long), torch.randn(4, 24, 256)).sample
    wanted = sum(size for key, (_, size) in saved.items() if key not in weights)
    esd = RefineOptions.of("esd", batch=4, mixed_precision="no", param="full", sampling_steps=1)
    planned = plan_memory(find(tiny_sd), esd, "cpu").parts
    peak = planned["activations"] + planned["gradients"]
    assert out.requires_grad and wanted < peak < 1.5 * wanted + planned["gradients"]


def test_live_bytes_forget_what_is_freed() -> None:
    with LiveBytes() as live:
        zeros = torch.zeros(1000)
        for _ in range(5):
            zeros = zeros + 1
        view = zeros[:10]
        del zeros, view
        assert live.now == 0
    assert live.peak == 8000


@pytest.mark.slow
def test_savings_save(tiny_sd: Path) -> None:
    source = find(tiny_sd)

    def plan(objective: str = "esd", concepts: int = 1, processes: int = 1, **given: Any) -> Any:
        return plan_memory(source, RefineOptions.of(objective, **{**SMALL, **given}), "cpu", concepts, processes)

    whole = plan()
    assert plan(param="lora:2").parts["teacher"] == 0 < whole.parts["teacher"]
    assert plan(param="kv").parts["optimizer"] < whole.parts["optimizer"] < plan(param="full").parts["optimizer"]
    assert plan(batch=8).parts["activations"] > whole.parts["activations"]
    assert plan(batch=8, accumulate=4).parts["activations"] == whole.parts["activations"]
    assert plan(batch=4, processes=2).parts["gradients"] == 2 * whole.parts["gradients"]
    assert plan("recover").parts["gradients"] == 4 * 10 * 256
    many = {"objective": "esd", "batch": 16, "param": "full"}
    assert plan(**many, gradient_checkpointing=True).total < plan(**many).total


@pytest.mark.slow
def test_lora_on_sd14_plans_under_12_gb(tmp_path: Path) -> None:
    """The budget of a 12 GB card, from configurations alone: the UNet, the text encoder and the VAE of SD 1.4 are
    859.5, 123.1 and 83.7 million numbers."""
    source = sd14(tmp_path)
    options = RefineOptions.of("ap", source.profile, param="lora:16", mixed_precision="bf16")
    planned = plan_memory(source, options, "cuda")
    assert planned.parts["weights"] == pytest.approx(2 * 859.5e6, rel=0.01) and planned.parts["teacher"] == 0
    assert "; frozen weights of the network in bfloat16; " in str(planned)
    assert planned.before - planned.parts["CUDA itself"] == pytest.approx(4 * 123.1e6, rel=0.01)
    assert 4e9 < planned.total + 4 * (123.1e6 + 83.7e6) < 12e9
    assert str(planned).startswith("planned memory on cuda, bf16: ") and "activations" in str(planned)


def test_large_models_plan_as_the_page_says_and_sdxl_within_20_gb() -> None:
    """What `tests/bench/refine_memory.py` planned of models of the released size."""
    root = Path(__file__).parents[1]
    rows = json.loads((root / "tests" / "bench" / "refine_memory.json").read_text(encoding="utf-8"))
    page = (root / "docs" / "how-to" / "refine.md").read_text(encoding="utf-8")
    sdxl = [row for row in rows if row["model"] == "sdxl"]
    assert sdxl and all(row["param"] == "lora:16" and row["mixed_precision"] == "bf16" for row in rows)
    assert all(row["objective"] == "ap" and row["gb"] < 20 for row in sdxl)
    for row in rows:
        assert row["gib"] == pytest.approx(max(sum(row["parts"].values()), row["to encode prompts"]), abs=0.1)
        more = ["--gradient-checkpointing"] if row.get("gradient_checkpointing") else []
        more += ["--storage fp8"] if "storage" in row else []
        said = [{"sdxl": "SDXL", "flux1": "FLUX.1 dev"}[row["model"]], row.get("size", "1024x1024"), row["objective"]]
        assert f"| {' | '.join(said)} | {f'`{chr(32).join(more)}`' if more else '(none)'} | {row['gib']} |" in page
