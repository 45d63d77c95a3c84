"""How a model lies in memory while it draws, and that pictures hardly depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import editkit
from editkit.drawing import sampler
from editkit.drawing.generate import generate, generate_folder
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.model.placement import Placement
from tests import tiny_llm_pipelines, tiny_pipelines
from tests.second_device import second_device

FAMILIES = ("sd1", "sdxl", "sd3", "flux1")
SIZE = {"sd1": (16, 16), "sdxl": (16, 8), "sd3": (16, 24), "flux1": (16, 24), "sana": (32, 64)}
PROMPTS = ["a church", "a photo of the mosque"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("placed")
    makers = {"sana": tiny_llm_pipelines.save}
    return cache(lambda name: tiny_sd if name == "sd1" else makers.get(name, tiny_pipelines.save)(name, base / name))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not told otherwise is drawn in float32."""
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


@pytest.fixture
def cuda(exact: None) -> Iterator[str]:
    """A GPU, or what stands for one."""
    with nullcontext("cuda") if torch.cuda.is_available() else second_device() as name:
        yield name


def sampling_of(name: str, **more: Any) -> Sampling:
    scheduler = "ddim" if name.startswith("sd1") or name == "sdxl" else "own"
    return Sampling(**{"steps": 2, "size": SIZE[name], "scheduler": scheduler, "guidance": 3.0} | more)


def drawn(denoiser: Any, sampling: Sampling, variants: Any = (None,), seed: int = 3) -> list[np.ndarray]:
    wanted = jobs(PROMPTS, [seed], len(variants))
    pictures = [picture for _, picture in draw(denoiser, wanted, variants, sampling)]
    return [np.asarray(picture, dtype=np.float64) / 255 for picture in pictures]


def apart(first: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).mean()) for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_of_bfloat16_weights_are_nearly_those_of_float32(
    name: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than 3 of 255 apart on average; another seed is farther. Noise, guidance and scheduler stay in float32,
    while the network sees nothing but bfloat16."""
    folder, sampling = folder_of(name), sampling_of(name, dtype="bfloat16")
    plain, half = open_denoiser(folder), open_denoiser(folder, placement=sampling.placement)
    assert {weight.dtype for weight in half.network.parameters()} == {torch.bfloat16}
    assert half.pipe.vae.dtype == half.pipe.text_encoder.dtype == torch.bfloat16
    seen: list[torch.dtype] = []
    half.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.extend(
            leaf.dtype
            for leaf in (*args[:1], kwargs.get("hidden_states"), kwargs.get("encoder_hidden_states"))
            if leaf is not None
        ),
        with_kwargs=True,
    )
    latents: list[Tensor] = []
    predict = half.predict
    monkeypatch.setattr(half, "predict", lambda z, *rest: latents.append(z) or predict(z, *rest))
    mine, other = drawn(plain, sampling), drawn(half, sampling)
    assert 0 < apart(mine, other) < 3 / 255 < apart(mine, drawn(plain, sampling, seed=4))
    assert {z.dtype for z in latents} == {torch.float32} and set(seen) == {torch.bfloat16}
    again = drawn(half, sampling_of(name, batch=1))
    assert apart(other, again) < 1.5 / 255


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_acts_on_bfloat16_rows_and_weights_with_one_rounding(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    folder = folder_of(name)
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    edit: Any = editkit.erase(open_model(folder), ["a church"], ["a dog"], options=options, checked=False)
    half = open_denoiser(folder, placement=Placement("bfloat16"))
    maps = edit.stream_maps(half.streams)
    assert maps is not None
    condition = half.encode(["a church"])[0][0]
    moved = condition.mapped(maps)
    rows, edit_map = condition.text.double(), maps["text"]
    wanted = rows + rows @ edit_map.V.T @ edit_map.U.T
    assert moved.text.dtype == torch.bfloat16 and torch.equal(moved.text, wanted.to(torch.bfloat16))
    names = half.streams["text"].names
    weights = {key: value.detach().clone() for key, value in half.network.named_parameters() if key in names}
    with editkit.applied(half.pipe, edit):
        inside = dict(half.network.named_parameters())
        for key, value in weights.items():
            exact = value.double()
            exact = exact + exact @ edit.map_for(key).U @ edit.map_for(key).V
            assert inside[key].dtype == torch.bfloat16 and torch.equal(inside[key], exact.to(torch.bfloat16))
    sampling = sampling_of(name, dtype="bfloat16")
    plain = drawn(open_denoiser(folder), sampling, [None, edit])
    assert apart(plain, drawn(half, sampling, [None, edit])) < 3 / 255


def test_a_decoder_that_overflows_in_float16_stays_in_float32(folder_of: Callable[[str], Path]) -> None:
    half = open_denoiser(folder_of("sdxl"), placement=Placement("float16"))
    assert half.network.dtype == torch.float16 and half.pipe.vae.dtype == torch.float32
    assert np.isfinite(drawn(half, sampling_of("sdxl"))[0]).all()
    placed = Placement("float16")
    assert placed.weight_dtype("vae", {"_class_name": "AutoencoderKL", "force_upcast": False}) == torch.float16
    assert placed.weight_dtype("vae", {"_class_name": "AutoencoderDC"}) == torch.float16
    assert Placement("bfloat16").weight_dtype("vae", {"force_upcast": True}) == torch.bfloat16


def test_float32_that_is_asked_for_is_multiplied_as_it_is(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: True)
    usual, asked = open_denoiser(tiny_sd), open_denoiser(tiny_sd, placement=Placement("float32"))
    there, here = drawn(usual, sampling_of("sd1")), drawn(asked, sampling_of("sd1"))
    assert apart(there, here) > 0
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)
    assert apart(drawn(usual, sampling_of("sd1")), here) == 0
    assert asked.copied().half == torch.float32  # pyright: ignore[reportAttributeAccessIssue]


def test_a_word_that_is_no_dtype_is_refused_before_a_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="--dtype: expected one of float32, bfloat16, float16, got 'half'"):
        generate(["a church"], tmp_path / "a.png", dtype="half")
    assert not any(tmp_path.iterdir())


def test_pictures_of_one_folder_are_of_one_dtype(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt\na church\n")
    given: Any = {"model": "emoji", "prompts": tmp_path / "prompts.csv", "edit": None, "seeds": "0", "steps": 1}
    assert generate_folder(out=tmp_path / "out", dtype="bfloat16", **given) == (1, 0)
    with pytest.raises(EditkitError, match="its pictures were made with dtype"):
        generate_folder(out=tmp_path / "out", dtype="float16", **given)
    assert "dtype" not in Sampling.for_model(find("emoji")).record


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_weights_in_float8_draw_nearly_the_same_and_edits_stay_exact(
    name: str, folder_of: Callable[[str], Path]
) -> None:
    """Where an edit acts on weights they are kept in the dtype of the computation: a round of it changes no bit."""
    folder, placement = folder_of(name), Placement(storage="fp8")
    small, half = open_denoiser(folder, placement=placement), open_denoiser(folder, placement=Placement("bfloat16"))
    weights = dict(small.network.named_parameters())
    stored = {key for key, weight in weights.items() if weight.dtype == torch.float8_e4m3fn}
    edited = {key for stream in small.streams.values() for key in stream.names}
    assert small.network.dtype == torch.bfloat16 and edited and not stored & edited
    assert sum(weights[key].numel() for key in stored) > 0.3 * sum(weight.numel() for weight in weights.values())
    sampling = sampling_of(name)
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    edit = editkit.erase(open_model(folder), ["a church"], ["a dog"], options=options, checked=False)
    before, other = drawn(small, sampling, [None, edit]), drawn(half, sampling, [None, edit])
    assert 0 < apart(before, other) < apart(before, drawn(small, sampling, [None, edit], seed=4)) / 2
    originals = {key: weights[key].detach().clone() for key in edited}
    with editkit.applied(small.pipe, edit):
        inside = drawn(small, sampling)
        assert any(not torch.equal(weights[key], value) for key, value in originals.items())
    assert apart(inside, before[1::2]) < 3 / 255
    assert all(torch.equal(weights[key], value) for key, value in originals.items())
    assert apart(drawn(small, sampling), before[0::2]) < 1.5 / 255


def test_what_was_tuned_is_not_put_into_float8(tiny_sd: Path) -> None:
    small = open_denoiser(tiny_sd, placement=Placement(storage="fp8"))
    key = next(key for key, weight in small.network.named_parameters() if weight.dtype == torch.float8_e4m3fn)
    tuned = Tuned({key: torch.zeros(dict(small.network.named_parameters())[key].shape)}, {}, {})
    with pytest.raises(EditkitError, match=rf"{key}: is quantised to torch\.float8_e4m3fn"):
        drawn(small, sampling_of("sd1"), [None, tuned])


@pytest.mark.parametrize("name", ["sd1", "sana"])
def test_tiles_leave_small_pictures_as_they_are(name: str, folder_of: Callable[[str], Path]) -> None:
    whole, tiled = (open_denoiser(folder_of(name), placement=Placement(tile_vae=tile)) for tile in (False, True))
    vae = tiled.pipe.vae
    own = vae.tile_latent_min_size if name == "sd1" else vae.tile_sample_min_height // tiled.pipe.vae_scale_factor
    channels = whole.latent_shape(SIZE[name])[0]
    with torch.no_grad():
        small = torch.randn(1, channels, own, own, generator=torch.Generator().manual_seed(0))
        assert torch.equal(whole.decode(small), tiled.decode(small))
        if name == "sd1":
            large = torch.randn(1, channels, own, 2 * own, generator=torch.Generator().manual_seed(0))
            assert whole.decode(large).shape == tiled.decode(large).shape
            assert not torch.equal(whole.decode(large), tiled.decode(large))


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_to_the_processor_from_the_processor_is_refused(offload: str, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=f"--offload {offload}: expected a GPU .* --device is cpu"):
        generate(["a church"], tmp_path / "a.png", device="cpu", offload=offload)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "offload"), [("sd1", "model"), ("sana", "model"), ("flux1", "sequential")])
def test_an_offloaded_model_draws_what_it_draws_in_one_place(
    name: str, offload: str, folder_of: Callable[[str], Path], cuda: str
) -> None:
    """Two batches, so that what was left on the GPU by the first is there for the second; edits by maps and by
    weights."""
    folder, sampling = folder_of(name), sampling_of(name, batch=2)
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    edit = editkit.erase(open_model(folder), ["a church"], ["a dog"], options=options, checked=False)
    here, there = open_denoiser(folder), open_denoiser(folder, cuda, Placement("float32", offload=offload))
    assert there.device.type == "cuda"
    assert all(weight.device.type in ("cpu", "meta") for weight in there.network.parameters())
    assert apart(drawn(here, sampling, [None, edit]), drawn(there, sampling, [None, edit])) < 0.2 / 255
    if offload == "model":
        with editkit.applied(here.pipe, edit), editkit.applied(there.pipe, edit):
            assert apart(drawn(here, sampling), drawn(there, sampling)) < 0.2 / 255
        assert apart(drawn(here, sampling), drawn(there, sampling)) < 0.2 / 255
        return
    weights = {key: value.detach() for key, value in here.network.named_parameters() if value.ndim == 2}
    tuned = Tuned(dict(list(weights.items())[:1]), {}, {})
    with pytest.raises(EditkitError, match="its weights are offloaded; edit the pipeline before offloading it, or"):
        drawn(there, sampling, [None, tuned])


def test_what_is_moved_or_cast_is_not_compiled() -> None:
    for given in ({"offload": "model"}, {"storage": "fp8"}):
        settings: Any = {"compile": True, **given}
        with pytest.raises(EditkitError, match="--compile: expected weights that stay as they are"):
            Sampling(**settings)
