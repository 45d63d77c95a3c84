"""What of drawing is refused before a weight is read, and how many pictures are drawn at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import editkit
from editkit.concepts.profile import DEFAULT, Profile
from editkit.drawing.outline import outline
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.plan import plan_drawing
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampler import at_once, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.apply import applied, network_of, projection_names
from editkit.model.checkpoints.source import find
from editkit.model.placement import Placement
from tests import tiny_llm_pipelines, tiny_pipelines
from tests.cli import run


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny models without their weights."""
    base = tmp_path_factory.mktemp("configured")

    @cache
    def made(name: str) -> Path:
        saving = tiny_llm_pipelines.save if name in ("sana", "lumina2", "flux2") else tiny_pipelines.save
        folder = saving(name, base / name)
        for weights in folder.rglob("*.safetensors"):
            weights.unlink()
        return folder

    return made


@pytest.mark.parametrize("name", ["sdxl", "flux1", "flux2", "sana", "lumina2"])
def test_a_size_is_refused_before_a_weight_is_read(name: str, configured: Callable[[str], Path]) -> None:
    source = find(configured(name))
    with pytest.raises(EditkitError, match=r"--size: expected multiples of \d+ for this model.*, got 67x64"):
        check_drawing(source, Sampling.for_model(source, size=(64, 67)))
    check_drawing(source, Sampling.for_model(source, size=(64, 64)))


def test_commands_refuse_a_size_and_write_nothing(configured: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a church\n")
    how = ("--model", configured("sdxl"), "--size", "67x64")
    for words in (
        ("generate", *how, "--prompt", "a church", "--out", "x.png"),
        ("generate", *how, "--prompts", "p.txt", "--out", "folder"),
    ):
        assert "--size: expected multiples of" in run(*words, cwd=tmp_path, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


def test_a_batch_follows_the_picture_unless_somebody_says(configured: Callable[[str], Path]) -> None:
    source = find(configured("flux2"))
    denoiser = outline(source, torch.device("meta"), parts=("transformer", "vae"))
    usual = Sampling.for_model(source)
    assert usual.batch is None and DEFAULT.sampling == {}
    assert [at_once(denoiser, replace(usual, size=(side, side))) for side in (64, 512, 1024, 2048)] == [8, 8, 2, 1]
    height, width = denoiser.picture_size()
    assert at_once(denoiser, usual) == max(1, min(8, 8 * 512 * 512 // (height * width)))
    assert at_once(denoiser, replace(usual, batch=5, size=(2048, 2048))) == 5
    assert Sampling.for_model(replace(source, brings=Profile(sampling={"batch": 3}))).batch == 3


def test_the_usual_batch_draws_what_any_other_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editkit.drawing.sampler.has_fast_bfloat16", lambda: False)
    denoiser, wanted = open_denoiser("emoji"), jobs(["a church"], range(10))
    sampling = Sampling(steps=2)
    batches = (sampling, replace(sampling, batch=10))
    drawn = [[np.asarray(p, int) for _, p in draw(denoiser, wanted, sampling=each)] for each in batches]
    assert at_once(denoiser, sampling) == 8
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(*drawn, strict=True))


def test_what_goes_not_with_quantised_weights_is_refused(
    configured: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find(configured("flux1"))
    with pytest.raises(EditkitError, match="--quantize: expected one of int8, got 'int3'"):
        Placement(quantize="int3")
    others: list[dict[str, Any]] = [{"storage": "fp8"}, {"offload": "sequential"}]
    for other in others:
        with pytest.raises(EditkitError, match="--quantize int8: goes with no --"):
            Placement(quantize="int8", **other)
    with pytest.raises(EditkitError, match="--compile: expected weights that stay as they are"):
        Sampling(compile=True, quantize="int8")
    sampling = Sampling.for_model(source, quantize="int8")
    assert sampling.placement.record == {"dtype": "bfloat16", "quantize": "int8"}
    monkeypatch.setattr("editkit.model.quantize.find_spec", lambda name: None if name == "torchao" else True)
    with pytest.raises(EditkitError, match=r"--quantize int8: needs torchao; pip install 'editkit\[quantize\]'"):
        check_drawing(source, sampling)
    with pytest.raises(EditkitError, match="--quantize int8: needs torchao"):
        editkit.load(configured("flux1"), quantize="int8")
    monkeypatch.setattr("editkit.model.quantize.find_spec", lambda name: True)
    text, other = "context_embedder.weight", "proj_out.weight"
    check_drawing(source, sampling, [None, _tuned(text)])
    with pytest.raises(EditkitError, match=f"--quantize int8: the edit changes {other}, which is quantised"):
        check_drawing(source, sampling, [None, _tuned(text, other)])


def _tuned(*names: str) -> Any:
    return Tuned({name: torch.zeros(1) for name in names}, {}, {}, {})


@pytest.mark.parametrize("name", ["sdxl", "flux1", "sana"])
def test_int8_is_counted_where_it_is_kept(name: str, tmp_path: Path) -> None:
    """Where torchao is installed."""
    pytest.importorskip("torchao")
    saving = tiny_llm_pipelines.save if name == "sana" else tiny_pipelines.save
    folder = saving(name, tmp_path / name)
    small = editkit.load(folder, quantize="int8")
    network = network_of(small)
    kept, held = {name for names in projection_names(small).values() for name in names}, 0
    for key, weight in network.named_parameters():
        quantised = type(weight).__name__ != "Parameter"
        is_matrix = isinstance(network.get_submodule(key.rpartition(".")[0]), torch.nn.Linear) and key.endswith(
            "weight"
        )
        assert quantised == (is_matrix and key not in kept), key
        parts = (weight.qdata, weight.scale) if quantised else (weight,)
        held += sum(part.numel() * part.element_size() for part in parts)
    planned = plan_drawing(folder, "cpu", quantize="int8", size=(64, 64))
    assert next(part.weights for part in planned.parts if part.name in ("unet", "transformer")) == held
    assert ", quantize int8, " in str(planned)


@pytest.mark.parametrize("how", [{}, {"layers": "v"}])
def test_an_edit_rides_along_with_int8(how: dict[str, Any]) -> None:
    """By its map or by its weights, it is as exact as without: what is quantised is what it leaves alone."""
    pytest.importorskip("torchao")
    edit = editkit.erase("emoji", ["church"], options=editkit.Options("uce", protect="none", **how))
    denoiser, wanted = (
        open_denoiser("emoji", placement=Placement("float32", quantize="int8")),
        jobs(["a church"], [0], 2),
    )
    drawn = [np.asarray(p, int) for _, p in draw(denoiser, wanted, [None, edit], Sampling(steps=3))]
    with applied(denoiser.pipe, edit):
        (whole,) = (np.asarray(p, int) for _, p in draw(denoiser, jobs(["a church"], [0]), sampling=Sampling(steps=3)))
    assert np.abs(drawn[1] - whole).max() <= 2 < np.abs(drawn[1] - drawn[0]).max()
