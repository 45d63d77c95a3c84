"""An edit on embeddings and an edit in the weights draw the same picture; batches and variants change nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.drawing import sampler
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, Sampling, draw, jobs
from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.erasure.erase import erase
from editkit.model.apply import applied
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.variants.edit_file import load_edit, save_edit

NEAR = 3 / 255
"""Largest mean difference of two renderings of one picture: bfloat16 sums in another order."""


@pytest.fixture(scope="module")
def emoji() -> Denoiser:
    return open_denoiser("emoji")


@pytest.fixture(scope="module")
def church() -> Edit:
    return erase(open_model("emoji"), ["church"])


def pictures(denoiser: Denoiser, wanted: list[Job], variants: Any = (None,), batch: int = 16) -> list[Image.Image]:
    sampling = Sampling(steps=4, guidance=3.0, batch=batch)
    return [picture for _, picture in draw(denoiser, wanted, variants, sampling)]


def difference(first: Image.Image, second: Image.Image) -> float:
    a, b = (np.asarray(picture, dtype=np.float64) / 255 for picture in (first, second))
    return float(np.abs(a - b).mean())


def test_embeddings_and_weights_draw_the_same(emoji: Denoiser, church: Edit) -> None:
    wanted = jobs(["a church", "a dog"], [0, 1])
    on_embeddings = pictures(emoji, wanted, [church])
    with applied(emoji.pipe, church):
        in_weights = pictures(emoji, wanted)
    plain = pictures(emoji, wanted)
    for mapped, edited in zip(on_embeddings, in_weights, strict=True):
        assert difference(mapped, edited) < NEAR
    assert difference(plain[0], in_weights[0]) > 3 * NEAR


def test_variants_in_one_batch(emoji: Denoiser, church: Edit) -> None:
    together = pictures(emoji, jobs(["a church"], [0, 1], 2), [None, church])
    apart = [*pictures(emoji, jobs(["a church"], [0, 1])), *pictures(emoji, jobs(["a church"], [0, 1]), [church])]
    for picture, other in zip(together, (apart[0], apart[2], apart[1], apart[3]), strict=True):
        assert difference(picture, other) < NEAR


def test_batch_size_does_not_matter(emoji: Denoiser) -> None:
    wanted = jobs(["a church", "a fish"], [0, 1, 2])
    for picture, other in zip(pictures(emoji, wanted, batch=1), pictures(emoji, wanted, batch=6), strict=True):
        assert difference(picture, other) < NEAR


def test_apply_and_revert_give_back_the_bits(emoji: Denoiser, church: Edit) -> None:
    before = {name: weight.clone() for name, weight in emoji.network.state_dict().items()}
    with pytest.raises(KeyError), applied(emoji.pipe, church):
        changed = [n for n, weight in emoji.network.state_dict().items() if not weight.equal(before[n])]
        raise KeyError
    assert changed and all(".attn2.to_" in name for name in changed)
    assert all(weight.equal(before[name]) for name, weight in emoji.network.state_dict().items())


def test_edit_file_keeps_the_map(church: Edit, tmp_path: Path) -> None:
    save_edit(church, tmp_path / "e.safetensors")
    again = load_edit(tmp_path / "e.safetensors")
    assert isinstance(again, Edit)
    rows = torch.randn(50, church.map.width, dtype=torch.float64)
    moved, same = church.map.embeddings(rows), again.map.embeddings(rows)
    assert (moved - same).norm() < 1e-6 * moved.norm()
    assert again.record["concepts"] == ["church"]


def test_tensor_edit_draws_through_its_weights(emoji: Denoiser, tmp_path: Path) -> None:
    options = Options("uce", protect="none", technique="tensor")
    made = erase(open_model("emoji"), ["church"], options=options)
    save_edit(made, tmp_path / "t.safetensors")
    mixed = pictures(emoji, jobs(["a church"], [0], 2), [None, load_edit(tmp_path / "t.safetensors")])
    with applied(emoji.pipe, made):
        direct = pictures(emoji, jobs(["a church"], [0]))
    assert difference(mixed[1], direct[0]) < NEAR
    assert difference(mixed[0], mixed[1]) > 0


def test_plain_diffusers_loads_it() -> None:
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(find("emoji").path, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler.config["prediction_type"], str)
    picture = pipe("a church", num_inference_steps=2, guidance_scale=3.0).images[0]
    assert picture.size == (64, 64)


def test_keys_and_values_of_a_prompt_are_computed_once_a_picture_to_the_same_bits(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, sampling = open_denoiser(tiny_sd), Sampling(steps=3, guidance=2.0)
    asked: list[int] = []
    inner = denoiser.network.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k
    weighed = torch.nn.functional.linear

    def counted(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        asked.extend([1] * (weight is inner.weight))
        return weighed(given, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    kept = [picture for _, picture in draw(denoiser, jobs(["a church", "a dog"], [0, 1]), sampling=sampling)]
    assert len(asked) == 1
    monkeypatch.setattr(sampler, "kept_projections", lambda *_: nullcontext())
    plain = [picture for _, picture in draw(denoiser, jobs(["a church", "a dog"], [0, 1]), sampling=sampling)]
    assert len(asked) == 1 + 3
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(kept, plain, strict=True))


def test_a_compiled_network_draws_the_same_pictures_with_weights_that_are_swapped_in(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and run without code generation, which takes a minute. The tuned weights are those of a map's."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    plain, compiled = open_denoiser(tiny_sd), open_denoiser(tiny_sd)
    tuned = Tuned({name: dict(plain.network.named_parameters())[name].detach() * 30}, {}, {})
    wanted, sampling = jobs(["a church"], [0, 1], 2), Sampling(steps=2, guidance=2.0)
    expected, drawn = (
        [np.asarray(picture, dtype=np.float64) for _, picture in draw(denoiser, wanted, [None, tuned], settings)]
        for denoiser, settings in ((plain, sampling), (compiled, replace(sampling, compile=True)))
    )
    assert compiled.network is not compiled.running and compiled.network is compiled.pipe.unet
    for one, other in zip(expected, drawn, strict=True):
        assert np.abs(one - other).mean() < 0.1
    assert np.abs(expected[0] - expected[1]).mean() > 0.1
