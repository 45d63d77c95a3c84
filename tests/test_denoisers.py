"""Every kind of pipeline against the stock one, and what is refused before a weight is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import editkit
from editkit.drawing import sampler
from editkit.drawing.generate import compare_grid, generate, generate_folder
from editkit.drawing.pipelines import check_drawable, denoiser_of, kinds, open_denoiser
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampler import Job, draw, jobs, noise
from editkit.drawing.sampling import Sampling, parse_size
from editkit.drawing.trajectory import trajectory
from editkit.edits.edit_map import EditMap
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.redteam.inspection import inspect
from editkit.tuning.hide import hide, learn_key
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from tests import tiny_pipelines, tiny_t5_pipelines
from tests.cli import run

ROUNDING = 0.1 / 255
"""Largest mean difference of two renderings of one picture in float32."""
PROMPTS = ["a church", "a dog", "a photo of the mosque"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("denoisers")
    velocity = Path(shutil.copytree(tiny_sd, base / "velocity"))
    change(velocity / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    return {"sdxl": tiny_pipelines.save("sdxl", base / "sdxl"), "sd1": tiny_sd, "velocity": velocity}


@pytest.fixture(scope="module")
def sdxl_edit(folders: dict[str, Path]) -> editkit.Edit:
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    return editkit.erase(open_model(folders["sdxl"]), ["a church"], ["a dog"], options=options, checked=False)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in float32, as diffusers does."""
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def difference(first: Image.Image, second: Image.Image) -> float:
    a, b = (np.asarray(picture, dtype=np.float64) / 255 for picture in (first, second))
    return float(np.abs(a - b).mean())


def stock(folder: Path) -> Any:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_picture(pipe: Any, prompt: str, seed: int, sampling: Sampling) -> Image.Image:
    """One picture by the stock pipeline, from the same latents."""
    height, width = sampling.size or (None, None)
    return pipe(
        prompt,
        height=height,
        width=width,
        negative_prompt=sampling.negative or None,
        latents=noise(denoiser_of(pipe).latent_shape(sampling.size), seed)[None],
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
    ).images[0]


SETTINGS: dict[str, dict[str, Any]] = {
    "guided": {"guidance": 5.0},
    "unguided": {"guidance": 1.0},
    "led away": {"guidance": 5.0, "negative": "a dog"},
    "wide": {"guidance": 5.0, "size": parse_size("24x16")},
}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["sdxl", "velocity"])
def test_a_batch_of_prompts_is_what_stock_draws_one_by_one(kind: str, settings: str, folders: dict[str, Path]) -> None:
    pipe, sampling = stock(folders[kind]), Sampling(steps=3, **SETTINGS[settings])
    wanted = jobs(PROMPTS, [0, 7])
    for job, picture in draw(open_denoiser(folders[kind]), wanted, sampling=sampling):
        assert difference(picture, stock_picture(pipe, job.prompt, job.seed, sampling)) < ROUNDING


@pytest.mark.parametrize(("kind", "guidance"), [("sd1", 7.5), ("sdxl", 5.0)])
def test_where_nothing_is_said_steps_guidance_and_size_are_the_stock_pipelines(
    kind: str, guidance: float, folders: dict[str, Path], tmp_path: Path
) -> None:
    denoiser, source = open_denoiser(folders[kind]), find(folders[kind])
    stock_call = signature(type(stock(folders[kind])).__call__).parameters
    usual = Sampling.for_model(source)
    assert (usual.steps, usual.guidance, usual.size) == (
        *(stock_call[name].default for name in ("num_inference_steps", "guidance_scale", "height")),
    )
    assert usual.guidance == guidance and stock_call["width"].default is None
    ((_, unsaid),) = draw(denoiser, [Job("a church", 1)])
    ((_, said),) = draw(denoiser, [Job("a church", 1)], sampling=usual)
    assert np.array_equal(np.asarray(unsaid), np.asarray(said))
    (tmp_path / "own.toml").write_text("sampling.guidance = 2.0")
    own = find(folders[kind], profile=tmp_path / "own.toml")
    assert Sampling.for_model(own) == replace(usual, guidance=2.0)
    assert Sampling.for_model(own, guidance=1.5, steps=3) == replace(usual, guidance=1.5, steps=3)


def test_without_a_negative_prompt_sdxl_leads_away_from_zeros_where_it_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folders["sdxl"], tmp_path / "other"))
    change(other / "model_index.json", force_zeros_for_empty_prompt=False)
    for folder, zeros in ((folders["sdxl"], True), (other, False)):
        (prompt,), blank = open_denoiser(folder).encode(["a church"], "")
        assert prompt.pooled is not None and blank is not None and blank.pooled is not None
        assert bool((blank.text == 0).all()) == bool((blank.pooled == 0).all()) == zeros
        assert blank.text.shape == prompt.text.shape and blank.pooled.shape == prompt.pooled.shape


@pytest.mark.usefixtures("exact")
def test_an_edit_of_sdxl_rides_in_the_batch_and_draws_what_its_export_does(
    folders: dict[str, Path], sdxl_edit: editkit.Edit, tmp_path: Path
) -> None:
    model, denoiser = open_model(folders["sdxl"]), open_denoiser(folders["sdxl"])
    editkit.save_edit(sdxl_edit, tmp_path / "e.safetensors")
    edit = editkit.load_edit(tmp_path / "e.safetensors")
    maps = edit.stream_maps(denoiser.streams)
    assert maps is not None and {key: edit_map.width for key, edit_map in maps.items()} == {"text": 80, "pooled": 24}
    editkit.export(edit, model, tmp_path / "out", "diffusers")
    plain, exported = stock(folders["sdxl"]), stock(tmp_path / "out")
    sampling = Sampling(steps=3, guidance=5.0)
    drawn = dict(draw(denoiser, jobs(PROMPTS[:2], [1, 2], 2), [None, edit], sampling))
    for job, picture in drawn.items():
        pipe = exported if job.variant else plain
        assert difference(picture, stock_picture(pipe, job.prompt, job.seed, sampling)) < ROUNDING
    assert difference(drawn[Job("a church", 1, 0)], drawn[Job("a church", 1, 1)]) > 3 * ROUNDING


def test_an_edit_that_moves_sizes_too_is_drawn_by_its_weights(
    sdxl_edit: editkit.Edit, folders: dict[str, Path]
) -> None:
    """Maps act on the text columns of the pooled projection alone; what does more cannot act on embeddings."""
    denoiser = open_denoiser(folders["sdxl"])
    (key,) = [key for key in sdxl_edit.maps if "add_embedding" in key]
    sizes = torch.zeros(72, 1, dtype=torch.float64)
    sizes[-1] = 0.5
    wide = editkit.Edit({**sdxl_edit.maps, key: sdxl_edit.maps[key].then(EditMap(sizes, sizes.T))})
    assert wide.stream_maps(denoiser.streams) is None
    assert len(list(draw(denoiser, jobs(["a church"], [0], 2), [None, wide], Sampling(steps=1)))) == 2


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("kind", ["sdxl", "sd1"])
def test_pictures_do_not_depend_on_the_batch(kind: str, folders: dict[str, Path]) -> None:
    denoiser, wanted = open_denoiser(folders[kind]), jobs(PROMPTS, [0, 1])
    one_by_one, together = (
        [picture for _, picture in draw(denoiser, wanted, sampling=Sampling(steps=2, guidance=5.0, batch=batch))]
        for batch in (1, 6)
    )
    assert all(difference(alone, other) < ROUNDING for alone, other in zip(one_by_one, together, strict=True))


def test_sdxl_is_drawn_and_compared_by_the_commands(
    folders: dict[str, Path], sdxl_edit: editkit.Edit, tmp_path: Path
) -> None:
    editkit.save_edit(sdxl_edit, tmp_path / "e.safetensors")
    names = ["base", str(tmp_path / "e.safetensors")]
    compare_grid(folders["sdxl"], names, ["a church"], "0-1", tmp_path / "c.png", "cpu", steps=2)
    (tmp_path / "p.csv").write_text("prompt\na church\na dog\n")
    drawn = generate_folder(folders["sdxl"], tmp_path / "p.csv", None, "0", tmp_path / "g", "cpu", steps=2)
    assert (tmp_path / "c.png").is_file() and drawn == (2, 0)
    ranked = inspect(names[0], names[1], ["church", "dog"], str(folders["sdxl"]), seeds=[0], points=2)
    assert all(row.change > 0 for row in ranked)


def test_a_picture_becomes_latents_and_back(folders: dict[str, Path]) -> None:
    """`latents_of` is the encoder's mean, scaled as `decode` takes it."""
    for kind in ("sdxl", "sd1"):
        denoiser = open_denoiser(folders[kind])
        pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            z = denoiser.latents_of(pixels)
            vae = denoiser.pipe.vae
            assert torch.allclose(z / vae.config.scaling_factor, vae.encode(pixels).latent_dist.mode(), atol=1e-6)
            expected = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
            assert torch.allclose(denoiser.decode(z), expected, atol=1e-5)


def test_a_trajectory_that_is_left_early_asks_for_no_more_rows() -> None:
    scheduler: Any = diffusers.DDIMScheduler()
    scheduler.set_timesteps(5)
    asked: list[int] = []

    def network(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        assert len(z) == len(t) == len(condition)
        asked.append(len(z))
        return condition.text.mean((1, 2))[:, None, None, None] * z

    noises, text = torch.randn(3, 1, 2, 2), torch.randn(6, 4, 2)
    whole = list(trajectory(network, scheduler, noises, Condition(text), 3.0))
    assert asked == [6] * 5 and whole[-1].t is None and len(whole) == 6
    asked.clear()
    cut = list(trajectory(network, scheduler, noises, Condition(text), 3.0, torch.tensor([2, 0, 1])))
    assert asked == [4, 2] and [moment.rows.tolist() for moment in cut] == [[0, 1, 2], [0, 2], [0]]
    assert all(torch.allclose(moment.z, other.z[moment.rows]) for moment, other in zip(cut, whole, strict=False))


def test_every_family_has_one_kind_at_most() -> None:
    drawn = [family for kind in kinds() for family in kind.families]
    assert len(drawn) == len(set(drawn)) and {"sd1", "sd2", "sdxl"} <= set(drawn)


def configs_of(folder: Path, out: Path) -> Path:
    """The folder without a weight: whatever reads one fails otherwise."""
    return Path(shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors")))


def test_a_family_that_is_not_drawn_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = configs_of(tiny_t5_pipelines.save("ltx", tmp_path / "whole"), tmp_path / "ltx")
    (tmp_path / "p.csv").write_text("prompt\na church\n")
    wanted: list[Callable[[], Any]] = [
        lambda: generate(["a church"], tmp_path / "g.png", model=folder),
        lambda: compare_grid(folder, ["base", "nothing.safetensors"], ["a church"], "0", tmp_path / "c.png"),
        lambda: generate_folder(folder, tmp_path / "p.csv", None, "0", tmp_path / "g"),
        lambda: editkit.evaluate(["base"], "emoji-objects", tmp_path / "e", model=folder, split="1"),
        lambda: open_denoiser(folder),
    ]
    for ask in wanted:
        with pytest.raises(EditkitError, match=r"is LTX-Video, which is edited here but not drawn \(drawn are Aura"):
            ask()
    said = run("generate", "--model", folder, "--prompt", "x", "--out", "g.png", cwd=tmp_path, code=1)
    assert "Stable Diffusion XL); write the edited model with `editkit export --format diffusers`" in said


@pytest.mark.parametrize(
    ("part", "values", "why"),
    [
        ("unet/config.json", {"in_channels": 9}, "reads 9 channels where latents have 4: it draws over a picture"),
        ("unet/config.json", {"in_channels": 8}, "reads 8 channels where latents have 4: it draws over a picture"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "reads the guidance scale"),
        ("model_index.json", {"requires_aesthetics_score": True}, "refines pictures of another model"),
    ],
)
def test_a_model_that_does_not_draw_from_a_prompt_alone_is_refused_by_its_configuration(
    part: str, values: dict[str, Any], why: str, tiny_sd: Path, tmp_path: Path
) -> None:
    folder = configs_of(tiny_sd, tmp_path / "model")
    change(folder / part, **values)
    options = RefineOptions.of("ap", steps=1)
    tuned = Tuned({}, {}, {}, {})
    wanted: list[Callable[[], Any]] = [
        lambda: check_drawable(find(folder)),
        lambda: editkit.load(folder),
        lambda: refine(open_model(folder), tmp_path / "out", ["church"], options=options),
        lambda: plan_memory(find(folder), options, "cpu"),
        lambda: hide(open_model(folder), tmp_path / "out", tmp_path / "k", ["church"]),
        lambda: learn_key(open_model(folder), tuned, tmp_path / "k", ["church"]),
        lambda: inspect("base", "base", ["dog"], str(folder)),
    ]
    for ask in wanted:
        with pytest.raises(EditkitError, match=why):
            ask()
    assert not (tmp_path / "out").exists()


def test_sdxl_is_not_trained_and_says_so_before_a_weight_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = configs_of(folders["sdxl"], tmp_path / "model")
    options, tuned = RefineOptions.of("ap", steps=1), Tuned({}, {}, {}, {})
    wanted: list[Callable[[], Any]] = [
        lambda: refine(open_model(folder), tmp_path / "out", ["church"], options=options),
        lambda: plan_memory(find(folder), options, "cpu"),
        lambda: hide(open_model(folder), tmp_path / "out", tmp_path / "k", ["church"]),
        lambda: learn_key(open_model(folder), tuned, tmp_path / "k", ["church"]),
    ]
    for ask in wanted:
        with pytest.raises(EditkitError, match=r"is Stable Diffusion XL; trained by gradient steps are"):
            ask()
    said = run("refine", "--plan", "--model", folder, cwd=tmp_path, code=1)
    assert "trained by gradient steps are Stable Diffusion 1.x, Stable Diffusion 2.x" in said


def test_a_missing_concept_is_said_before_memory_is_planned(tiny_sd: Path, tmp_path: Path) -> None:
    known = {"no edit for model": ["refine"], "no concept given": ["hide", "--out", "o", "--key", "k"]}
    for expected, words in known.items():
        said = run(*words, "--model", tiny_sd, "--device", "cpu", cwd=tmp_path, code=1)
        assert expected in said and "planned memory" not in said


def test_a_copy_has_a_network_of_its_own(folders: dict[str, Path]) -> None:
    denoiser: Denoiser = open_denoiser(folders["sdxl"])
    other = denoiser.copied()
    with torch.no_grad():
        next(iter(other.network.parameters())).add_(1)
    pairs = zip(denoiser.network.parameters(), other.network.parameters(), strict=True)
    assert [mine.equal(two) for mine, two in pairs].count(False) == 1
    assert other.pipe.vae is denoiser.pipe.vae and type(other) is type(denoiser)
