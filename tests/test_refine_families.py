"""The gradient stage on families with several text streams: losses, exports, warm starts, plans, the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling, parse_size
from editkit.edits.key import Unlocked
from editkit.edits.method import Options
from editkit.erasure.words import read_vocabulary
from editkit.errors import EditkitError
from editkit.model.apply import applied
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.model.families.table import by_name
from editkit.tuning import loop
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.hide import hide
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points
from editkit.tuning.memory import plan_memory, step_passes
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import GROUPS, Parameters, choose
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import encode_prompts
from editkit.tuning.refine import refine
from editkit.tuning.search.closed_form import damage
from tests import tiny_pipelines
from tests.cli import run
from tests.test_memory import allocated
from tests.test_refine import equal

WORDS = ["dog", "mosque", "photo", "picture"]
LAMB, ETA = 0.7, 1.5
SMALL: dict[str, Any] = {"batch": 2, "k": 2, "sampling_steps": 3, "steps": 2, "rate": 1e-3, "mixed_precision": "no"}
Said = Callable[[Any, Tensor, Tensor, str], Tensor]


@dataclass(frozen=True)
class Stock:
    """A family as diffusers runs it.

    Attributes:
        said: what a network of the pipeline says of one row of latents at a step, for a prompt.
        size: what its pictures are trained at, where that is not the model's own.
    """

    said: Callable[[Any, Any, Tensor, Tensor, str], Tensor]
    size: str | None = None

    @property
    def small(self) -> dict[str, Any]:
        return SMALL if self.size is None else {**SMALL, "size": self.size}

    @property
    def pixels(self) -> tuple[int, int] | None:
        return None if self.size is None else parse_size(self.size)


def of_sdxl(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
    side = float(z.shape[-1] * pipe.vae_scale_factor)
    sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=z.dtype)
    added = {"text_embeds": pooled.to(z), "time_ids": sizes}
    return network(z, t, encoder_hidden_states=text.to(z), added_cond_kwargs=added).sample


def of_sd3(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, _, pooled, _ = pipe.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
    how = {"encoder_hidden_states": text.to(z), "pooled_projections": pooled.to(z)}
    return network(hidden_states=z, timestep=t, **how).sample


def of_flux(pipe: Any, network: Any, z: Tensor, t: Tensor, prompt: str) -> Tensor:
    text, pooled, txt_ids = pipe.encode_prompt(prompt, None)
    _, channels, height, width = z.shape
    said = network(
        hidden_states=pipe._pack_latents(z, 1, channels, height, width),
        timestep=t.to(z) / 1000,
        guidance=torch.ones(1),
        encoder_hidden_states=text.to(z),
        pooled_projections=pooled.to(z),
        txt_ids=txt_ids.float(),
        img_ids=pipe._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", z.dtype),
    ).sample
    return pipe._unpack_latents(said, height, width, 1)


FAMILIES = {"sdxl": Stock(of_sdxl), "sd3": Stock(of_sd3), "flux1": Stock(of_flux, "16x16")}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("refined")
    return cache(lambda name: (saved_dev if name == "flux1" else tiny_pipelines.save)(name, base / name))


def saved_dev(name: str, folder: Path) -> Path:
    """FLUX.1 dev, which reads its guidance."""
    pipe = stock(tiny_pipelines.save(name, folder / "schnell"))
    torch.manual_seed(1)
    pipe.transformer = diffusers.FluxTransformer2DModel.from_config(
        {**pipe.transformer.config, "guidance_embeds": True}
    )
    pipe.save_pretrained(folder / "dev")
    return folder / "dev"


def stock(folder: Path) -> Any:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_of(name: str, folder: Path, out: Path, start: Any = None, **options: Any) -> Any:
    concepts = () if start is not None else ("church", "dog")
    given = RefineOptions.of(**{**FAMILIES[name].small, **options})
    words = ["mosque", "photo", "picture"]
    resume = out.exists()
    return refine(open_model(folder), out, concepts, start, (), given, words, "cpu", resume)


class Setting:
    """A model in float64, but for its text encoders, whose student has moved away from its teacher."""

    def __init__(self, name: str, folder: Path, param: str = "full") -> None:
        self.pipe, self.stock, self.name = stock(folder), FAMILIES[name], name
        self.denoiser = open_denoiser(folder)
        network = self.denoiser.network.double()
        self.networks = Denoisers(network, self.denoiser.predict)
        self.untrained = stock(folder).components[self.denoiser.component].double()  # pyright: ignore
        family = find(folder).family
        if Parameters.parse(param).rank is None:
            self.networks.keep_teacher()
        torch.manual_seed(3)
        self.trained = choose(network, Parameters.parse(param), family)
        made = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in self.trained.values():
                weight += 0.05 * torch.randn(weight.shape, generator=made).to(weight)
        self.network = network
        prompts = encode_prompts(self.denoiser, ["church", "mosque"], ["", "dog"], [["photo", "dog"]] * 2, ["a {}"])
        self.prompts = replace(prompts, known=in_float64(prompts.known), away=in_float64(prompts.away))
        config = self.denoiser.latent_shape(self.stock.pixels)
        self.z = torch.randn(3, *config, generator=made, dtype=torch.float64)
        self.t = torch.tensor([10.0, 500.0, 999.0])
        self.concept, self.template = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 0])
        self.texts = {
            "e": ["a church", "a mosque", "a church"], "n": ["", "a dog", ""], "a": ["a photo", "a dog", "a dog"],
        }  # fmt: skip

    def said(self, network: Any, key: str) -> Tensor:
        """Row by row, as the stock pipeline asks."""
        rows = zip(self.z.split(1), self.t.split(1), self.texts[key], strict=True)
        return torch.cat([self.stock.said(self.pipe, network, z, t, text) for z, t, text in rows])

    def package(self, objective: str) -> Tensor:
        """As the trainer calls it."""
        passes = Passes(OBJECTIVES[objective], self.networks, self.prompts, LAMB, ETA, evenly)
        points = passes.with_targets(Points(self.z, self.t, self.concept, self.template))
        searched = self.prompts.a(self.concept, torch.tensor([0, 1, 1]), self.template)
        return passes.terms(points, searched if objective == "ap" else None).loss(LAMB)

    def reference(self, objective: str) -> Tensor:
        """The equations."""
        with torch.no_grad():
            e, n, a = (self.said(self.untrained, key) for key in "ena")
        if objective == "esd":
            return squares(self.said(self.network, "e"), n - ETA * (e - n))
        return squares(self.said(self.network, "e"), n) + LAMB * squares(self.said(self.network, "a"), a)


def in_float64(condition: Condition) -> Condition:
    pooled = None if condition.pooled is None else condition.pooled.double()
    return replace(condition, text=condition.text.double(), pooled=pooled)


def squares(first: Tensor, other: Tensor) -> Tensor:
    return torch.stack([((first[i] - other[i]) ** 2).sum() for i in range(len(first))])


@pytest.mark.parametrize(
    ("name", "objective", "param"), [("sdxl", "ap", "lora:2"), ("sd3", "esd", "lora:2"), ("flux1", "ap", "full")]
)
def test_values_and_gradients_are_those_of_the_equations(
    name: str, objective: str, param: str, folder_of: Callable[[str], Path]
) -> None:
    s = Setting(name, folder_of(name), param)
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
def test_the_damage_of_a_candidate_counts_every_stream(name: str, folder_of: Callable[[str], Path]) -> None:
    denoiser, model = open_denoiser(folder_of(name)), open_model(folder_of(name))
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
def test_a_mixture_of_prompts_is_one_of_every_stream(name: str, folder_of: Callable[[str], Path]) -> None:
    denoiser = open_denoiser(folder_of(name))
    prompts = encode_prompts(denoiser, ["church"], [""], [["dog", "mosque"]], ["a {}"])
    none = torch.zeros(1, dtype=torch.long)
    mixed = prompts.mixed(none, none, torch.tensor([[0.25, 0.75]]))
    dog, mosque = (Condition.joined(denoiser.encode([text])[0]) for text in ("a dog", "a mosque"))
    assert torch.allclose(mixed.text, 0.25 * dog.text + 0.75 * mosque.text, atol=1e-5)
    assert mixed.pooled is not None and dog.pooled is not None and mosque.pooled is not None
    assert torch.allclose(mixed.pooled, 0.25 * dog.pooled + 0.75 * mosque.pooled, atol=1e-5)


def probe(s: Any, pipe: Any, network: Any, shape: tuple[int, ...]) -> Tensor:
    z = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return s.said(pipe, network, z, torch.tensor([400.0]), "a church")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_lora_from_a_warm_start_is_loaded_by_the_stock_pipeline(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """The exported file predicts what the release does; the first loss is the edit's, whose teacher is the model."""
    folder, s = folder_of(name), FAMILIES[name]
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
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """On a UNet with the blocks of SDXL, which those names count."""
    plain, s = stock(folder_of("sdxl")), FAMILIES["sdxl"]
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
    name: str, folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained is what a closed form would edit, with its biases; and its export predicts what it does."""
    folder, options = folder_of(name), {"param": "text", "search": "gumbel", "steps": 4, "save_every": 2}
    options["bank"] = name == "sdxl"
    whole = run_of(name, folder, tmp_path / "a", **options)
    step = loop.Trainer.step

    def killed(self: Any, i: int) -> Any:
        if i == 3:
            raise ZeroDivisionError
        return step(self, i)

    monkeypatch.setattr(loop.Trainer, "step", killed)
    with pytest.raises(ZeroDivisionError):
        run_of(name, folder, tmp_path / "b", **options)
    monkeypatch.setattr(loop.Trainer, "step", step)
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
def test_a_plan_is_what_a_small_model_takes(name: str, param: str, folder_of: Callable[[str], Path]) -> None:
    source = find(folder_of(name))
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
    measured = max(allocated(step) for step in step_passes(source, denoiser, networks, options))
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
def test_the_command(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    words: list[Any] = [
        "refine",
        "--model",
        folder_of(name),
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
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Loss by hand: the key's rows stand behind the prompt's own, the pooled vector is the prompt's."""
    s = Setting(name, folder_of(name), "text")
    model = open_model(folder_of(name))
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


def test_what_a_flow_cannot_be_trained_with_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = open_model(folder_of("sd3"))
    options = RefineOptions.of("esd", mixed_precision="fp16")
    with pytest.raises(EditkitError, match="--mixed-precision fp16: values of Stable Diffusion 3 are too large"):
        refine(model, tmp_path / "out", ["church"], options=options)
    with pytest.raises(EditkitError, match="--vocabulary tokens: expected a tokenizer of CLIP"):
        read_vocabulary(open_model(folder_of("flux1")), "tokens")
    with pytest.raises(EditkitError, match="--size: expected WIDTHxHEIGHT in pixels such as 512x768, got 'big'"):
        RefineOptions.of("esd", size="big")
    assert not (tmp_path / "out").exists()
