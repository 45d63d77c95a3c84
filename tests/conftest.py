"""Models that the tests run on: the bundled one, and a tiny random Stable Diffusion 1.x folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

SHARES_THE_CORES = "PYTEST_XDIST_WORKER" in os.environ
if SHARES_THE_CORES:  # one thread each, and for what they start: read when torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder shaped like SD 1.x, with random weights and the bundled tokenizer."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from editkit.model.checkpoints.source import find

    torch.manual_seed(0)
    tokenizer: Any = CLIPTokenizer.from_pretrained(find("emoji").path / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=256,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, latent_channels=4)
    parts: dict[str, Any] = {
        "scheduler": DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, **parts)
    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def inverted_sd(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_sd` with the textual inversions `<cat-toy>` of three vectors, `<dog>` of two and `<pot>` of one."""
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    made = torch.Generator().manual_seed(1)
    for token, vectors in (("<cat-toy>", 3), ("<dog>", 2), ("<pot>", 1)):
        pipe.load_textual_inversion({token: torch.randn(vectors, 256, generator=made) * 0.02}, token=token)
    folder = tmp_path_factory.mktemp("models") / "inverted-sd"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A report of the bundled model with and without "church", and what is in it. One prompt would be markup."""
    from editkit.edits.method import Options
    from editkit.erasure.erase import erase
    from editkit.model.editable import open_model
    from editkit.report.compare import compare_report
    from editkit.variants.edit_file import save_edit

    folder = tmp_path_factory.mktemp("report")
    for name, protect in (("church-uce", "none"), ("church-prior", "prior")):
        edit = erase(open_model("emoji"), ["church"], options=Options("uce", protect=protect))
        save_edit(edit, folder / f"{name}.safetensors")
    edits = ["base", *(str(folder / f"{name}.safetensors") for name in ("church-uce", "church-prior"))]
    prompts = ["a church", 'a <b>dog</b> & "co" \'', "a mosque"]
    made = compare_report("emoji", edits, prompts, "0-2", folder / "out", steps=6)
    return folder / "out", made


@pytest.fixture(scope="session")
def large_report(report: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The report of `report` with pictures too large for a page: a ramp, a little noise, a disc for each variant."""
    from dataclasses import replace

    from editkit.drawing.sampler import jobs
    from editkit.report.compare import write_report
    from editkit.report.drawn import Drawn
    from tests.discs import disc_picture

    made, out = report[1], tmp_path_factory.mktemp("large") / "out"
    drawn = Drawn([variant.name for variant in made.variants], out)
    for job in jobs(made.prompts, made.seeds[:2], len(made.variants)):
        drawn.add(job, disc_picture(job))
    large = replace(made, pictures=drawn, seeds=made.seeds[:2], detections={})
    write_report(large, out, ["editkit", "compare"])
    return out, large
