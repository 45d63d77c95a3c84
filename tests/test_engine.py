"""The engine against stock diffusers; files that resume, stream, and are shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from editkit.drawing import sampler
from editkit.drawing.files import Shard, draw_files, keep_settings
from editkit.drawing.pipelines import denoiser_of, open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, draw, jobs, noise
from editkit.drawing.sampling import SCHEDULERS, Sampling, parse_size
from editkit.edits.method import Options
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.variants.export import export

NEAR = 3 / 255
"""Largest mean difference of two renderings of one picture: bfloat16 against float32."""
ROUNDING = 0.1 / 255
"""The same in float32."""


@pytest.fixture(scope="module")
def emoji() -> Denoiser:
    return open_denoiser("emoji")


def difference(first: Image.Image, second: Image.Image) -> float:
    a, b = (np.asarray(picture, dtype=np.float64) / 255 for picture in (first, second))
    return float(np.abs(a - b).mean())


def stock_picture(denoiser: Denoiser, prompt: str, seed: int, sampling: Sampling) -> Image.Image:
    """The same picture by the `__call__` of the stock pipeline."""
    pipe = denoiser.pipe
    usual = pipe.scheduler
    kind = type(usual) if sampling.scheduler == "own" else getattr(diffusers, SCHEDULERS[sampling.scheduler])
    pipe.scheduler = kind.from_config(usual.config)
    height, width = sampling.size or (None, None)
    try:
        return pipe(
            prompt,
            height=height,
            width=width,
            negative_prompt=sampling.negative,
            latents=noise(denoiser.latent_shape(sampling.size), seed)[None],
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
        ).images[0]
    finally:
        pipe.scheduler = usual


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in float32, as diffusers does."""
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_draws_what_stock_diffusers_draws(emoji: Denoiser, scheduler: str) -> None:
    sampling = Sampling(steps=4, guidance=3.0, negative="a dog", scheduler=scheduler)
    ((_, ours),) = draw(emoji, [Job("a church", 3)], sampling=sampling)
    assert difference(ours, stock_picture(emoji, "a church", 3, sampling)) < ROUNDING
    ((_, unled),) = draw(emoji, [Job("a church", 3)], sampling=Sampling(steps=4, guidance=3.0, scheduler=scheduler))
    assert difference(ours, unled) > NEAR


@pytest.mark.usefixtures("exact")
def test_draws_another_size(emoji: Denoiser) -> None:
    sampling = Sampling(steps=4, guidance=3.0, size=parse_size("96x64"))
    ((_, ours),) = draw(emoji, [Job("a church", 3)], sampling=sampling)
    assert ours.size == (96, 64)
    assert difference(ours, stock_picture(emoji, "a church", 3, sampling)) < ROUNDING


@pytest.mark.parametrize("technique", ["replace", "tensor"])
def test_a_variant_is_the_exported_model(emoji: Denoiser, technique: str, tmp_path: Path) -> None:
    """`replace` is one map and rides in the batch; `tensor` has its weights swapped in."""
    model = open_model("emoji")
    edit = erase(model, ["church"], options=Options("uce", protect="none", technique=technique))
    assert edit.is_global == (technique == "replace")
    export(edit, model, tmp_path / "exported", "diffusers")
    sampling = Sampling(steps=8, guidance=3.0)
    wanted = jobs(["a church", "a dog"], [0, 1], 2)
    drawn = dict(draw(emoji, wanted, [None, edit], sampling))
    stock: Any = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "exported", local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    for job, picture in drawn.items():
        model = denoiser_of(stock) if job.variant else emoji
        assert difference(picture, stock_picture(model, job.prompt, job.seed, sampling)) < NEAR
    assert difference(drawn[wanted[0]], drawn[wanted[1]]) > 3 * NEAR


def test_reads_the_list_as_it_draws(emoji: Denoiser) -> None:
    read = 0

    def endless() -> Iterator[Job]:
        nonlocal read
        while True:
            read += 1
            yield Job("a church", read)

    drawing = draw(emoji, endless(), sampling=Sampling(steps=1, batch=2))
    assert [next(drawing)[0].seed for _ in range(3)] == [1, 2, 3]
    assert read == 4


def test_a_second_run_draws_what_is_missing(emoji: Denoiser, tmp_path: Path) -> None:
    sampling = Sampling(steps=1, guidance=1.0)
    wanted = [(Job("a church", seed), tmp_path / f"{seed}.png") for seed in range(5)]
    assert draw_files(emoji, wanted[:3], sampling=sampling) == (3, 0)
    before = {path: path.stat().st_mtime_ns for _, path in wanted[:3]}
    assert draw_files(emoji, wanted, sampling=sampling) == (2, 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    ((_, again),) = draw(emoji, [Job("a church", 4)], sampling=sampling)
    assert difference(Image.open(wanted[4][1]), again) < NEAR


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_divide_a_list(count: int) -> None:
    parts = [list(Shard(rank, count).of(range(5))) for rank in range(count)]
    assert sorted(number for part in parts for number in part) == list(range(5))


@pytest.mark.slow
def test_every_wait_waits(tmp_path: Path) -> None:
    """The first process comes to the second wait at once; the other one writes its file first."""
    (tmp_path / "waits.py").write_text(
        "import pathlib, time\n"
        "from editkit.drawing.files import Shard\n"
        "shard, there = Shard.from_environment(), pathlib.Path('there')\n"
        "shard.wait()\n"
        "if not shard.is_first:\n"
        "    time.sleep(2)\n"
        "    there.touch()\n"
        "shard.wait()\n"
        "assert there.exists()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "waits.py"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_folder_keeps_to_its_settings(tmp_path: Path) -> None:
    keep_settings(tmp_path, {"steps": 20, "size": (64, 64)})
    keep_settings(tmp_path, {"steps": 20, "size": (64, 64)})
    with pytest.raises(EditkitError, match="made with steps 20, now 50; give another --out"):
        keep_settings(tmp_path, {"steps": 50, "size": (64, 64)})
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(EditkitError, match=r"settings\.json: cannot be read"):
        keep_settings(tmp_path, {"steps": 20})


def test_names_what_cannot_be_drawn(emoji: Denoiser) -> None:
    for size, reason in (("65x64", "expected multiples of 16 for this model, got 65x64"), ("0x64", "got 0x64")):
        with pytest.raises(EditkitError, match=reason):
            emoji.latent_shape(parse_size(size))
    for text in ("64", "axb", "-64x64", ""):
        with pytest.raises(EditkitError, match="expected WIDTHxHEIGHT"):
            parse_size(text)
    with pytest.raises(EditkitError, match="expected one of ddim, euler, dpm"):
        Sampling(scheduler="eler")
    with pytest.raises(EditkitError, match="--steps: expected at most 1000"):
        list(draw(emoji, [Job("a", 0)], sampling=Sampling(steps=1001)))


def test_noise_comes_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = noise((4, 8, 8), 7)
    torch.manual_seed(6)
    assert torch.equal(noise((4, 8, 8), 7), first)
    assert not torch.equal(noise((4, 8, 8), 8), first)
