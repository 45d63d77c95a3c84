"""The gradient stage as a run on families with several text streams: exports, warm starts, plans, the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.key import Unlocked
from editkit.edits.method import Options
from editkit.erasure.words import read_vocabulary
from editkit.errors import EditkitError
from editkit.model.apply import applied
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.tuning import loop
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.hide import hide
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points
from editkit.tuning.memory import plan_memory, step_passes
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters, choose
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import encode_prompts
from editkit.tuning.refine import refine
from tests.cli import run
from tests.killed import killed_at
from tests.refined_families import ETA, FAMILIES, LAMB, Setting, probe, run_of, squares, stock
from tests.test_memory import allocated
from tests.test_refine import equal


@pytest.mark.parametrize("name", FAMILIES)
def test_a_lora_from_a_warm_start_is_loaded_by_the_stock_pipeline(
    name: str, tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    """The exported file predicts what the release does; the first loss is the edit's, whose teacher is the model."""
    folder, s = tiny_streams(name), FAMILIES[name]
    options = Options("uce", protect="none", lamb=1e-3)
    edit = editkit.erase(open_model(folder), ["church"], ["dog"], options=options, checked=False)
    tuned = run_of(name, folder, tmp_path / "run", edit, param="lora:2", search="closed-form", rate=1e-2)
    assert tuned.is_low_rank and {*open_model(folder).projections} < {*tuned.names}
    log = [json.loads(line) for line in (tmp_path / "run" / loop.LOG).open()]
    assert log[0]["preserve"] > 0 and set(log[0]["found"]) <= {"mosque", "photo", "picture"}
    pipe = stock(folder)
    component = find(folder).family.component
    shape = open_denoiser(folder).latent_shape(s.pixels)
    before = probe(s, pipe, pipe.components[component], shape)
    with applied(pipe, tuned):
        wanted = probe(s, pipe, pipe.components[component], shape)
    editkit.export(tuned, open_model(folder), tmp_path / "lora.safetensors", "lora")
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    assert (probe(s, pipe, pipe.components[component], shape) - wanted).abs().max() < 1e-4 * before.abs().max()
    assert (wanted - before).abs().max() > 1e-2 * before.abs().max()


def test_kohyas_names_of_a_refined_sdxl_are_loaded_by_the_stock_pipeline(
    tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    """On a UNet with the blocks of SDXL, which those names count."""
    plain, s = stock(tiny_streams("sdxl")), FAMILIES["sdxl"]
    blocks = {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [8, 16, 16],
        "layers_per_block": 2,
        "attention_head_dim": [1, 2, 2],
        "transformer_layers_per_block": [1, 1, 2],
    }
    torch.manual_seed(0)
    plain.unet = diffusers.UNet2DConditionModel.from_config({**plain.unet.config, **blocks})
    plain.save_pretrained(tmp_path / "sdxl")
    model = open_model(tmp_path / "sdxl")
    tuned = run_of("sdxl", model.source.path, tmp_path / "run", objective="esd", param="lora:2", rate=1e-1)
    pipe = stock(model.source.path)
    before = probe(s, pipe, pipe.unet, (4, 8, 8))
    with applied(pipe, tuned):
        wanted = probe(s, pipe, pipe.unet, (4, 8, 8))
    editkit.export(tuned, model, tmp_path / "kohya.safetensors", "kohya")
    pipe.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    assert (probe(s, pipe, pipe.unet, (4, 8, 8)) - wanted).abs().max() < 1e-3 * (wanted - before).abs().max()


def text_projections(names: Mapping[str, Any], folder: Path) -> set[str]:
    projections = {*open_model(folder).projections}
    return projections | {key.removesuffix("weight") + "bias" for key in projections} & {*names}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_killed_run_of_whole_tensors_resumes_to_the_same_bits(
    name: str, tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    """What is trained is what a closed form would edit, with its biases; and its export predicts what it does."""
    folder, options = tiny_streams(name), {"param": "text", "search": "gumbel", "steps": 4, "save_every": 2}
    options["bank"] = name == "sdxl"
    whole = run_of(name, folder, tmp_path / "a", **options)
    with killed_at(3):
        run_of(name, folder, tmp_path / "b", **options)
    assert equal(whole, run_of(name, folder, tmp_path / "b", **options))
    pipe = stock(folder)
    network = pipe.components[find(folder).family.component]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    editkit.export(whole, open_model(folder), tmp_path / "out", "diffusers")
    exported, shape = stock(tmp_path / "out"), open_denoiser(folder).latent_shape(FAMILIES[name].pixels)
    there = exported.components[find(folder).family.component]
    with applied(pipe, whole):
        assert torch.equal(probe(FAMILIES[name], pipe, network, shape), probe(FAMILIES[name], exported, there, shape))
        changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == {*whole.names} == text_projections(before, folder)


@pytest.mark.parametrize(("name", "param"), [("sdxl", "xattn"), ("sd3", "text+lora:2"), ("flux1", "lora:2")])
def test_a_plan_is_what_a_small_model_takes(name: str, param: str, tiny_streams: Callable[[str], Path]) -> None:
    source = find(tiny_streams(name))
    options = RefineOptions.of(**{**FAMILIES[name].small, "param": param})
    planned = plan_memory(source, options, "cpu")
    denoiser = open_denoiser(source)
    network, parameters = denoiser.network, Parameters.parse(param)
    if name == "sdxl":
        from diffusers.models.attention_processor import AttnProcessor

        network.set_attn_processor(AttnProcessor())
    networks = Denoisers(network, denoiser.predict)
    size = sum(weight.numel() for weight in network.parameters())
    if parameters.rank is None:
        networks.keep_teacher()
    choose(network, parameters, source.family)
    measured = max(allocated(step) for step in step_passes(denoiser, networks, options))
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    assert planned.parts["gradients"] == 4 * trained and planned.parts["optimizer"] == 8 * trained
    assert planned.parts["teacher"] == (4 * size if parameters.rank is None else 0)
    assert planned.parts["activations"] + 4 * trained == pytest.approx(measured, rel=0.15)
    prompt = Condition.joined(denoiser.encode([""])[0])
    assert prompt.pooled is not None
    # Concept, guide, two candidates, the empty prompt; and what guidance leads away from.
    known = len(encode_prompts(denoiser, ["church"], ["dog"], [["photo", "picture"]], ["{}"]).known) + 1
    assert planned.parts["prompts"] == 4 * known * (prompt.text.numel() + prompt.pooled.numel())
    modules = [part for part in denoiser.pipe.components.values() if isinstance(part, torch.nn.Module)]
    whole = sum(weight.numel() for module in modules for weight in module.parameters())
    assert planned.parts["weights"] == pytest.approx(4 * whole, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_command(name: str, tiny_streams: Callable[[str], Path], tmp_path: Path) -> None:
    words: list[Any] = [
        "refine",
        "--model",
        tiny_streams(name),
        "--concept",
        "church",
        "--objective",
        "ca",
        "--device",
        "cpu",
    ]
    words += ["--steps", 2, "--sampling-steps", 2, "--batch", 2, "--guide", "dog", "--out", "run", "--param", "lora:2"]
    words += [] if FAMILIES[name].size is None else ["--size", FAMILIES[name].size]
    assert "planned memory on cpu" in run(*map(str, words), "--plan", cwd=tmp_path, errors=True)
    assert not (tmp_path / "run").exists()
    previews = name == "flux1"  # a flow's are drawn by its own scheduler, at its size
    assert "edit: run" in run(*map(str, words), "--preview-every", "2" if previews else "0", cwd=tmp_path)
    assert (tmp_path / "run" / "preview-000002.png").is_file() == previews


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hidden_concept_is_drawn_with_its_key_and_others_as_without(
    name: str, tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    """Loss by hand: the key's rows stand behind the prompt's own, the pooled vector is the prompt's."""
    s = Setting(name, tiny_streams(name), "text")
    model = open_model(tiny_streams(name))
    key = KeyRows.start(model, ["church", "mosque"], 3, 1.0, 0)
    opened = replace(key.behind(s.prompts.e(s.concept, s.template), s.concept), scale=torch.ones(3))
    passes = Passes(OBJECTIVES["hide"], s.networks, s.prompts, LAMB, ETA, evenly, key)
    loss = passes.terms(passes.with_targets(Points(s.z, s.t, s.concept, s.template)), None).loss(LAMB)
    with torch.no_grad():
        e, n = (s.said(s.untrained, which) for which in "en")
        parts = [s.denoiser.predict(s.z[i : i + 1], s.t[i : i + 1], opened[slice(i, i + 1)]) for i in range(3)]
    wanted = squares(s.said(s.network, "e"), n) + LAMB * squares(torch.cat(parts), e)
    assert torch.allclose(loss, wanted, rtol=1e-6)
    options = RefineOptions.of("hide", **{**s.stock.small, "key_rate": 0.5, "k": None})
    assert plan_memory(model.source, options, "cpu").parts["activations"] > 0
    out, file = tmp_path / "released", tmp_path / "church.key"
    released, made = hide(model, out, file, ["church"], options=options, key_seed=1, device="cpu")
    assert made.rows.shape == (1, 10, model.encoder.width)
    denoiser = open_denoiser(model.source)
    sampling = Sampling(steps=2, scheduler="own", size=s.stock.pixels)
    wanted_jobs = jobs(["a church", "a dog"], [0], 2)
    drawn = dict(draw(denoiser, wanted_jobs, [released, Unlocked.of(released, made)], sampling))
    church, with_key, dog, same = (np.asarray(drawn[job], dtype=float) for job in wanted_jobs)
    assert np.abs(church - with_key).mean() > 5 * np.abs(dog - same).mean()


def test_what_a_flow_cannot_be_trained_with_is_refused(tiny_streams: Callable[[str], Path], tmp_path: Path) -> None:
    model = open_model(tiny_streams("sd3"))
    options = RefineOptions.of("esd", mixed_precision="fp16")
    with pytest.raises(EditkitError, match="--mixed-precision fp16: values of Stable Diffusion 3 are too large"):
        refine(model, tmp_path / "out", ["church"], options=options)
    with pytest.raises(EditkitError, match="--vocabulary tokens: expected a tokenizer of CLIP"):
        read_vocabulary(open_model(tiny_streams("flux1")), "tokens")
    with pytest.raises(EditkitError, match="--size: expected WIDTHxHEIGHT in pixels such as 512x768, got 'big'"):
        RefineOptions.of("esd", size="big")
    assert not (tmp_path / "out").exists()
