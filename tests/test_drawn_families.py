"""Pictures of every family that is drawn: those of the stock pipeline, and of the exported weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import editkit
from editkit.drawing import sampler
from editkit.drawing.pipelines import check_drawable, denoiser_of, open_denoiser
from editkit.drawing.pipelines.transformer import in_a_row, in_a_square
from editkit.drawing.sampler import Job, draw, jobs, noise
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from tests import tiny_llm_pipelines, tiny_pipelines, tiny_t5_pipelines

ROUNDING = 0.1 / 255
"""Largest mean difference of two renderings of one picture in float32."""
PROMPTS = ["a church", "a photo of the mosque"]
"""Of different lengths, so that a batch holds rows that are padded."""


@dataclass(frozen=True)
class Drawn:
    """A family: who makes its tiny folder, a size in pixels that stock takes, and how stock is told what to draw.
    At `strong` guidance a random network, which hardly looks at its prompt, draws something else for another."""

    save: Callable[[str, Path], Path]
    size: tuple[int, int] = (16, 24)
    call: dict[str, Any] = field(default_factory=dict)
    guidance: str = "guidance_scale"
    packed: bool = False
    strong: float = 200.0


UNBINNED = {"use_resolution_binning": False}
FAMILIES = {
    "sd3": Drawn(tiny_pipelines.save),
    "flux1": Drawn(tiny_pipelines.save, guidance="true_cfg_scale", packed=True),
    "chroma": Drawn(tiny_t5_pipelines.save, packed=True),
    "flux2": Drawn(tiny_llm_pipelines.save),
    "auraflow": Drawn(tiny_t5_pipelines.save, (16, 16), strong=5000.0),
    "pixart": Drawn(tiny_t5_pipelines.save, call=UNBINNED),
    "sana": Drawn(tiny_llm_pipelines.save, (32, 64), UNBINNED),
    "lumina2": Drawn(tiny_llm_pipelines.save, (128, 192)),
    "cogview4": Drawn(tiny_llm_pipelines.save, (16, 32)),
    "qwenimage": Drawn(tiny_llm_pipelines.save, guidance="true_cfg_scale", packed=True),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "guided": {},
    "unguided": {"guidance": 1.0},
    "led away": {"negative": "a dog"},
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("drawn")
    return cache(lambda name: FAMILIES[name].save(name, base / name))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in float32, as diffusers does."""
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


def stock(folder: Path) -> Any:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def difference(first: Image.Image, second: Image.Image) -> float:
    a, b = (np.asarray(picture, dtype=np.float64) / 255 for picture in (first, second))
    return float(np.abs(a - b).mean())


def sampling_of(name: str, guidance: float | None = None, negative: str = "", **more: Any) -> Sampling:
    """`guidance` is classifier-free in all: FLUX.1 has its own beside."""
    guidance = FAMILIES[name].strong if guidance is None else guidance
    scales = {"true_cfg": guidance} if name == "flux1" else {"guidance": guidance}
    given: Any = {"steps": 2, "size": FAMILIES[name].size, "scheduler": "own"} | scales | more
    return Sampling(negative=negative, **given)


def stock_picture(name: str, pipe: Any, job: Job, sampling: Sampling) -> Image.Image:
    """One picture by the stock pipeline, from the same latents."""
    known = FAMILIES[name]
    latents = noise(denoiser_of(pipe).latent_shape(sampling.size), job.seed)[None]
    scale = sampling.true_cfg if name == "flux1" else sampling.guidance
    call: dict[str, Any] = {known.guidance: scale, "negative_prompt": sampling.negative} | known.call
    if name == "flux1":
        call["guidance_scale"] = sampling.guidance
    if name == "flux2":  # its pipeline takes a negative prompt as rows alone
        del call["negative_prompt"]
        assert not sampling.negative
    return pipe(
        prompt=job.prompt,
        height=known.size[0],
        width=known.size[1],
        latents=in_a_row(latents) if known.packed else latents,
        num_inference_steps=sampling.steps,
        **call,
    ).images[0]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_prompts_is_what_stock_draws_one_by_one(name: str, folder_of: Callable[[str], Path]) -> None:
    pipe, denoiser = stock(folder_of(name)), open_denoiser(folder_of(name))
    different = []
    for settings in SETTINGS.values():
        if name == "flux2" and settings.get("negative"):
            continue
        sampling = sampling_of(name, **settings)
        drawn = dict(draw(denoiser, jobs(PROMPTS, [3]), sampling=sampling))
        for job, picture in drawn.items():
            assert difference(picture, stock_picture(name, pipe, job, sampling)) < ROUNDING
        different.append(drawn[Job(PROMPTS[0], 3)])
    assert all(difference(different[0], other) > ROUNDING for other in different[1:])


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_rides_in_the_batch_and_draws_what_its_export_does(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """With its other prompts unedited, and the negative one edited too."""
    folder = folder_of(name)
    model, denoiser = open_model(folder), open_denoiser(folder)
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    edit = editkit.erase(model, ["a church"], ["a dog"], options=options, checked=False)
    assert edit.stream_maps(denoiser.streams) is not None
    editkit.export(edit, model, tmp_path / "out", "diffusers")
    plain, exported = stock(folder), stock(tmp_path / "out")
    sampling = sampling_of(name, negative="" if name == "flux2" else "the church")
    drawn = dict(draw(denoiser, jobs(PROMPTS, [1], 2), [None, edit], sampling))
    for job, picture in drawn.items():
        pipe = exported if job.variant else plain
        assert difference(picture, stock_picture(name, pipe, job, sampling)) < ROUNDING
    assert difference(drawn[Job("a church", 1, 0)], drawn[Job("a church", 1, 1)]) > ROUNDING


@pytest.mark.parametrize("name", ["flux1", "sana"])
def test_what_was_tuned_is_drawn_by_its_weights(name: str, folder_of: Callable[[str], Path]) -> None:
    denoiser = open_denoiser(folder_of(name))
    key = denoiser.streams["text"].names[0]
    weight = dict(denoiser.network.named_parameters())[key].detach().clone()
    made = torch.Generator().manual_seed(0)
    tuned = Tuned({key: weight + torch.randn(weight.shape, generator=made)}, {}, {})
    sampling = sampling_of(name)
    drawn = dict(draw(denoiser, jobs(["a church"], [0], 2), [None, tuned], sampling))
    assert difference(drawn[Job("a church", 0, 0)], drawn[Job("a church", 0, 1)]) > ROUNDING
    again = dict(draw(denoiser, jobs(["a church"], [0]), [None], sampling))
    assert difference(drawn[Job("a church", 0, 0)], again[Job("a church", 0, 0)]) == 0
    assert torch.equal(dict(denoiser.network.named_parameters())[key], weight)


def test_a_model_that_reads_its_guidance_is_given_it(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """FLUX.1 dev: stock's picture at two scales, neither with a second pass."""
    plain = stock(folder_of("flux1"))
    config = dict(plain.transformer.config) | {"guidance_embeds": True}
    torch.manual_seed(1)
    dev: Any = diffusers.FluxTransformer2DModel.from_config(config)
    plain.transformer = dev.eval()
    plain.save_pretrained(tmp_path / "dev")
    denoiser = open_denoiser(tmp_path / "dev")
    pictures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "has_fast_bfloat16", lambda: False)
        for scale in (1.0, 9.0):
            sampling = replace(sampling_of("flux1", 1.0), guidance=scale)
            ((job, picture),) = draw(denoiser, [Job("a church", 0)], sampling=sampling)
            assert difference(picture, stock_picture("flux1", plain, job, sampling)) < ROUNDING
            pictures.append(picture)
    assert difference(*pictures) > ROUNDING


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_of_pixels_are_the_inverse_of_decoding_in_shape_and_scale(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    """The decoder's own numbers come back: what is encoded and scaled is unscaled before it is decoded."""
    denoiser = open_denoiser(folder_of(name))
    z = noise(denoiser.latent_shape(FAMILIES[name].size), 0)[None]
    with torch.no_grad():
        pixels = denoiser.decode(z)
        coded = denoiser.latents_of(pixels)
        shift, scale = denoiser._shift_and_scale(z)  # pyright: ignore[reportAttributeAccessIssue]
    assert coded.shape == z.shape and pixels.shape[:2] == (1, 3)
    assert torch.allclose((z / scale + shift - shift) * scale, z, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_where_nothing_is_said_settings_are_the_stock_pipelines(name: str, folder_of: Callable[[str], Path]) -> None:
    from inspect import signature

    usual, pipe = Sampling.for_model(find(folder_of(name))), stock(folder_of(name))
    call = signature(type(pipe).__call__).parameters
    assert usual.steps == call["num_inference_steps"].default and usual.scheduler == "own" and usual.true_cfg == 1
    own = call["guidance_scale"].default
    assert usual.guidance == (call["true_cfg_scale"].default if own is None else own)
    assert type(denoiser_of(pipe).schedule(replace(usual, size=FAMILIES[name].size))) is type(pipe.scheduler)


def test_squares_of_latents_go_in_a_row_as_the_pipelines_pack_them() -> None:
    z = noise((3, 4, 6), 0)[None].expand(2, -1, -1, -1)
    row = in_a_row(z)
    assert torch.equal(row, diffusers.FluxPipeline._pack_latents(z, 2, 3, 4, 6))
    assert torch.equal(in_a_square(row, 4, 6), z)


def test_what_a_models_guidance_has_no_use_for_is_refused(folder_of: Callable[[str], Path]) -> None:
    flux, sd3 = find(folder_of("flux1")), find(folder_of("sd3"))
    with pytest.raises(EditkitError, match=r"--negative: .* reads its guidance .* give --true-cfg above 1"):
        Sampling.for_model(flux, negative="a dog")
    with pytest.raises(EditkitError, match=r"--negative: .* reads its guidance"):
        Sampling.for_model(flux, negative="a dog", steps=2, guidance=3.0, scheduler="own", batch=1)
    assert Sampling.for_model(flux, negative="a dog", true_cfg=2.0).true_cfg == 2
    with pytest.raises(EditkitError, match=r"--true-cfg: expected a model that reads its guidance"):
        Sampling.for_model(sd3, true_cfg=2.0)
    with pytest.raises(EditkitError, match=r"--scheduler: expected own for a model of flow matching .*got 'ddim'"):
        open_denoiser(sd3).schedule(Sampling(scheduler="ddim"))
    with pytest.raises(EditkitError, match=r"--scheduler: expected own for a model of flow matching .*got 'euler'"):
        Sampling.for_model(sd3, scheduler="euler")


@pytest.mark.parametrize(
    ("name", "stated", "why"),
    [
        ("sana", "SanaSprintPipeline", "is a SanaSprintPipeline; of Sana drawn are SanaPipeline"),
        ("flux1", "FluxFillPipeline", "is a FluxFillPipeline; of FLUX.1 drawn are FluxPipeline"),
        ("flux2", "Flux2Pipeline", "is a Flux2Pipeline; of FLUX.2 drawn are Flux2KleinPipeline"),
    ],
)
def test_relatives_that_are_not_drawn_are_refused_before_a_weight_is_read(
    name: str, stated: str, why: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    import json

    index = json.loads((folder_of(name) / "model_index.json").read_text()) | {"_class_name": stated}
    for component in ("transformer", "vae"):
        (tmp_path / component).mkdir()
        (tmp_path / component / "config.json").write_text((folder_of(name) / component / "config.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(EditkitError, match=why):
        check_drawable(find(tmp_path))


def test_sizes_that_a_model_cannot_draw_are_refused(folder_of: Callable[[str], Path]) -> None:
    flux, sd3 = open_denoiser(folder_of("flux1")), open_denoiser(folder_of("sd3"))
    with pytest.raises(EditkitError, match="--size: expected multiples of 2 for this model, at least that, got 17x16"):
        flux.latent_shape((16, 17))
    with pytest.raises(EditkitError, match="expected at most 96 a side"):
        sd3.latent_shape((98, 16))


def test_a_gate_is_refused_where_it_does_not_read_the_prompt(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"FluxPipeline: is FLUX\.1; a gate reads the prompts of Stable Diffusion 1"):
        editkit.gate(stock(folder_of("flux1")), tmp_path / "e.safetensors")
    with pytest.raises(EditkitError, match=r"is Stable Diffusion 3; a gate reads the prompts of"):
        editkit.gated(folder_of("sd3"), tmp_path / "e.safetensors")


def test_a_scale_of_guidance_is_a_number_of_at_least_0_and_up_to_1_there_is_none(
    folder_of: Callable[[str], Path],
) -> None:
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(EditkitError, match="--guidance: expected a scale of at least 0, got"):
            Sampling(guidance=wrong)
        with pytest.raises(EditkitError, match="--true-cfg: expected a scale of at least 0, got"):
            Sampling(true_cfg=wrong)
    denoiser = open_denoiser(folder_of("sd3"))
    zero, one = (
        [picture for _, picture in draw(denoiser, jobs(PROMPTS, [0]), sampling=sampling_of("sd3", scale))]
        for scale in (0.0, 1.0)
    )
    assert all(difference(*pair) == 0 for pair in zip(zero, one, strict=True)) and difference(*zero) > 0


def test_a_distilled_klein_has_no_use_for_guidance(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    pipe = stock(folder_of("flux2"))
    pipe.register_to_config(is_distilled=True)
    pipe.save_pretrained(tmp_path)
    for given in ({"negative": "a dog"}, {"guidance": 9.0}):
        with pytest.raises(EditkitError, match="is distilled and draws without guidance; leave it out"):
            Sampling.for_model(find(tmp_path), **given)
    assert open_denoiser(tmp_path).away(Sampling.for_model(find(tmp_path))) is None


def test_a_scheduler_that_draws_noise_of_its_own_is_refused(folder_of: Callable[[str], Path]) -> None:
    denoiser = open_denoiser(folder_of("sd3"))
    denoiser.scheduler.register_to_config(stochastic_sampling=True)
    with pytest.raises(EditkitError, match="--scheduler own: FlowMatchEulerDiscreteScheduler draws fresh noise"):
        denoiser.schedule(sampling_of("sd3"))


def test_sana_is_drawn_at_the_size_that_it_was_trained_for(folder_of: Callable[[str], Path]) -> None:
    denoiser = open_denoiser(folder_of("sana"))
    side = denoiser.network.config.sample_size
    assert denoiser.latent_shape() == (4, side, side)
