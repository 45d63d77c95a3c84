"""Erase, export and load with the stock library, through the command line, for every kind of checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import editkit
from tests import ldm, tiny_pipelines
from tests.cli import run
from tests.test_streams import picture, stock

UNPROTECTED = ["--guide", "a dog", "--protect", "none", "--method", "uce", "--tokens", "all"]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_single_file_from_end_to_end(family: str, tmp_path: Path) -> None:
    import diffusers

    folder = ldm.save_folder(family, tmp_path / "folder")
    checkpoint = tmp_path / "model.safetensors"
    ldm.save_single_file(family, folder, checkpoint)
    model = ["--model", checkpoint, "--tokenizer", folder / "tokenizer"]
    run("erase", *model, "--concept", "a church", *UNPROTECTED, "--out", "e.safetensors", cwd=tmp_path)
    run("export", "e.safetensors", *model, "--format", "single-file", "--out", "out.safetensors", cwd=tmp_path)
    kind: Any = getattr(diffusers, ldm.NAMES[family])
    how = {"config": str(folder), "local_files_only": True}
    pipe, edited = (
        kind.from_single_file(str(tmp_path / name), **how) for name in ("model.safetensors", "out.safetensors")
    )
    edit = editkit.load_edit(tmp_path / "e.safetensors")
    before = _drawn(pipe)
    with editkit.applied(pipe, edit):
        expected = _drawn(pipe)
    assert np.array_equal(_drawn(edited), expected) and not np.array_equal(before, expected)
    # The folder has the same weights, so the edit is one for it as well.
    run("export", "e.safetensors", "--model", folder, "--format", "lora", "--out", "lora.safetensors", cwd=tmp_path)
    said = run(
        "export", "e.safetensors", "--model", folder, "--format", "single-file", "--out", "x", cwd=tmp_path, code=1
    )
    assert "use --format diffusers" in said


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux1"])
def test_a_folder_from_end_to_end(family: str, tmp_path: Path) -> None:
    folder = tiny_pipelines.save(family, tmp_path / "folder")
    run("erase", "--model", folder, "--concept", "a church", *UNPROTECTED, "--out", "e.safetensors", cwd=tmp_path)
    record = json.loads(run("info", "e.safetensors", "--json", cwd=tmp_path))
    assert record["family"] == family and record["figures"]["pooled"]["rank"] >= 1
    run("export", "e.safetensors", "--model", folder, "--format", "diffusers", "--out", "edited", cwd=tmp_path)
    pipe = stock(family, folder)
    before = picture(pipe)
    with editkit.applied(pipe, editkit.load_edit(tmp_path / "e.safetensors")):
        expected = picture(pipe)
    assert np.array_equal(picture(stock(family, tmp_path / "edited")), expected)
    assert not np.array_equal(before, expected)


def test_compose_scale_and_families(tiny_sd: Path, tmp_path: Path) -> None:
    erase = ["erase", "--model", tiny_sd, *UNPROTECTED, "--concept"]
    run(*erase, "church", "--out", "a.safetensors", cwd=tmp_path)
    run(*erase, "mosque", "--out", "b.safetensors", cwd=tmp_path)
    said = run("compose", "a.safetensors", "b.safetensors", "--out", "c.safetensors", cwd=tmp_path)
    assert "church → a dog, mosque → a dog" in said
    run("compose", "c.safetensors", "--scale", "0.5", "--out", "half.safetensors", cwd=tmp_path)
    for name in ("a", "b", "c", "half"):
        run("export", f"{name}.safetensors", "--model", tiny_sd, "--out", f"{name}.kv.safetensors", cwd=tmp_path)
    whole, half = (load_file(tmp_path / f"{name}.kv.safetensors") for name in ("c", "half"))
    for name, W in editkit.open_model(tiny_sd).projections.items():
        assert float(((W + whole[name]) / 2 - half[name]).norm() / W.norm()) < 1e-6
    assert "transformer_blocks.*.attn2.to_[kv]" in run("families", cwd=tmp_path)
    listed = json.loads(run("families", "--json", cwd=tmp_path))
    assert {"sd1", "sd2", "sdxl", "sd3", "flux1", "flux2", "chroma", "wan"} <= {family["name"] for family in listed}


def _drawn(pipe: Any) -> np.ndarray:
    import torch

    pipe.set_progress_bar_config(disable=True)
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    generator = torch.Generator().manual_seed(0)
    how = {"num_inference_steps": 2, "generator": generator, "output_type": "np"}
    return pipe("a church", height=size, width=size, **how).images[0]
