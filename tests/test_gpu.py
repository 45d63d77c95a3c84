"""What runs on a GPU does what it does on the processor.

Without a GPU the properties are held against `second_device`, which finds tensors that nobody moved. With one they are
held against CUDA itself, in float32 without TF32: sums in another order then differ by some 1e-7 of themselves, and a
few guided steps let that grow to at most 1e-4. Half precision would be off by 1e-2, another noise by 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor

import editkit
from editkit.drawing import sampler
from editkit.drawing.generate import compare_grid, generate, generate_folder
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.recover import recover
from editkit.drawing.sampler import draw, jobs, noise
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.model.apply import apply_edit, revert_edit, text_projections
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.inspection import inspect
from editkit.report.sensitivity import sensitivity
from editkit.tuning import loop
from editkit.tuning.hide import hide, learn_key
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.tuning.setup import Setup, prepare
from editkit.variants.edit_file import save_edit
from editkit.variants.tuned_file import load_tuned
from tests import tiny_pipelines
from tests.killed import killed_at
from tests.second_device import second_device

WORDS = ["dog", "cat", "tree", "house", "car", "river", "mountain", "table"]
SMALL: dict[str, Any] = {"batch": 2, "k": 4, "sampling_steps": 3, "steps": 3, "rate": 1e-3, "mixed_precision": "no"}
ONE_LEVEL = 1
"""Of 255: where a value falls between two, rounding may go either way."""


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a GPU is, or what stands for it; both devices in float32."""
    monkeypatch.setattr(sampler, "fast", lambda *_: nullcontext())
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield "cuda"
    else:
        with second_device() as name:
            yield name


@pytest.fixture(scope="module")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save("sdxl", tmp_path_factory.mktemp("models") / "tiny-sdxl")


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


@pytest.fixture(scope="module")
def edit(model: EditableModel) -> Edit:
    options = Options("uce", protect="none")
    return editkit.erase(model, ["church"], [" "], options=options, vocabulary=WORDS, checked=False)


@pytest.fixture(scope="module")
def church(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edit of the bundled model."""
    path = tmp_path_factory.mktemp("edits") / "church.safetensors"
    save_edit(editkit.erase(open_model("emoji"), ["church"], options=Options("rece", protect="none")), path)
    return path


def as_array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def drawn(denoiser: Denoiser, prompts: list[str], variants: list[Any], **settings: Any) -> list[np.ndarray]:
    wanted = jobs(prompts, [0, 1], len(variants))
    return [as_array(picture) for _, picture in draw(denoiser, wanted, variants, Sampling(steps=3, **settings))]


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / loop.LOG).open()]


def losses(run: Path) -> list[float]:
    """What is compared of runs: Adam makes a whole step of a gradient that is all rounding, so weights differ more."""
    return [step["loss"] for step in log(run)]


def close(first: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.abs(a - b).max() <= ONE_LEVEL for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
def test_pictures_are_those_of_the_processor(cuda: str, tiny_sdxl: Path, scheduler: str) -> None:
    here, there = (open_denoiser(tiny_sdxl, device) for device in ("cpu", cuda))
    assert there.device.type == cuda and next(there.network.parameters()).device.type == cuda
    prompts = ["a church", "a dog on a church"]
    settings = {"scheduler": scheduler, "size": (16, 8)}
    assert close(drawn(here, prompts, [None], **settings), drawn(there, prompts, [None], **settings))


def test_the_bundled_model_draws_its_pictures_there(cuda: str) -> None:
    here, there = (open_denoiser("emoji", device) for device in ("cpu", cuda))
    first, other = (drawn(each, ["a church"], [None], guidance=4.0) for each in (here, there))
    assert close(first, other)


def test_the_first_latents_are_the_seeds_to_the_bit(cuda: str, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser: Any = open_denoiser(tiny_sd, cuda)
    given: list[Tensor] = []
    predict = denoiser.predict
    monkeypatch.setattr(denoiser, "predict", lambda z, *rest: given.append(z.cpu()) or predict(z, *rest))
    drawn(denoiser, ["a church"], [None], guidance=1)
    assert given[0].equal(torch.stack([noise(denoiser.latent_shape(), seed) for seed in (0, 1)]))


def test_an_edit_made_on_the_processor_is_applied_and_reverted_to_the_bit(cuda: str, tiny_sd: Path, edit: Edit) -> None:
    pipe = editkit.load(tiny_sd, cuda)
    before = {name: weight.detach().cpu() for name, weight in text_projections(pipe).items()}
    originals = apply_edit(pipe, edit)
    after = {name: weight.detach().cpu() for name, weight in text_projections(pipe).items()}
    wanted = edit.weights(before)
    assert len(wanted) == len(before) and all(after[name].equal(value) for name, value in wanted.items())
    assert not any(after[name].equal(before[name]) for name in before)
    revert_edit(originals)
    assert all(weight.detach().cpu().equal(before[name]) for name, weight in text_projections(pipe).items())


def test_variants_of_a_batch_are_those_of_runs_of_their_own(cuda: str, tiny_sdxl: Path) -> None:
    opened = open_model(tiny_sdxl)
    options = Options("uce", protect="none")
    erased = editkit.erase(opened, ["church"], [" "], options=options, vocabulary=["dog"], checked=False)
    denoiser = open_denoiser(tiny_sdxl, cuda)
    together = drawn(denoiser, ["a church"], [None, erased])
    assert close(together[0::2], drawn(denoiser, ["a church"], [None]))
    assert close(together[1::2], drawn(denoiser, ["a church"], [erased]))
    with editkit.applied(denoiser.pipe, erased):
        assert close(together[1::2], drawn(denoiser, ["a church"], [None]))


def test_files_and_sheets_are_drawn_there(cuda: str, tiny_sd: Path, edit: Edit, tmp_path: Path) -> None:
    path = tmp_path / "church.safetensors"
    save_edit(edit, path)
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,evaluation_seed\na church,5\na dog,6\n")
    for device in ("cpu", cuda):
        place = tmp_path / device
        generate(["a church"], place / "one.png", path, "0-1", tiny_sd, device, steps=2)
        compare_grid(tiny_sd, ["base", str(path)], ["a church"], "0", place / "two.png", device, steps=2)
        assert generate_folder(tiny_sd, table, path, "0", place / "many", device, steps=2) == (2, 0)
        assert generate_folder(tiny_sd, table, path, "0", place / "many", device, steps=2) == (0, 2)
    names = sorted(path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.png"))
    assert len(names) == 4
    for name in names:
        assert close(*([as_array(Image.open(tmp_path / device / name))] for device in ("cpu", cuda)))


SUITE = """
name = "small"
about = "One object goes, one stays."
detector = "emoji-judge"
metrics = ["esr-1", "psr-1"]
seeds = "0-1"
classes = ["church", "dog"]
templates = ["an image of a {}"]

[splits]
buildings = ["church"]
"""


def test_an_evaluation_counts_what_it_counts_on_the_processor(cuda: str, church: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SUITE)
    here, there = (
        evaluate(["base", church], str(tmp_path / "small.toml"), tmp_path / device, device=device, steps=3)
        for device in ("cpu", cuda)
    )
    assert here is not None and there is not None
    assert here.record["metrics"] == there.record["metrics"]


STAGES: list[dict[str, Any]] = [
    {"search": "gumbel"},
    {"search": "gumbel", "recipe": "authors", "bank": False, "batch": 1},
    {"search": "exact", "search_every": 2},
    {"search": "closed-form", "search_every": 2},
    {"objective": "age", "search": "gumbel", "accumulate": 2},
    {"objective": "ca"},
    {"objective": "esd", "gradient_checkpointing": True},
    {"param": "lora:2", "search": "closed-form"},
]


@pytest.mark.parametrize("options", STAGES, ids=lambda options: "-".join(str(value) for value in options.values()))
def test_refining_takes_the_processors_steps(
    options: dict[str, Any], cuda: str, model: EditableModel, edit: Edit, tmp_path: Path
) -> None:
    chosen = RefineOptions.of(**SMALL | options)
    for device in ("cpu", cuda):
        refine(model, tmp_path / device, (), edit, options=chosen, vocabulary=WORDS, device=device)
    assert losses(tmp_path / cuda) == pytest.approx(losses(tmp_path / "cpu"), rel=1e-3)
    here, there = ([step["found"] for step in log(tmp_path / device)] for device in ("cpu", cuda))
    assert here == there


def test_a_run_goes_on_on_the_other_device(cuda: str, model: EditableModel, tmp_path: Path) -> None:
    """Begun on the processor, and killed; its checkpoint holds nothing of a device."""
    settings: dict[str, Any] = {**SMALL, "steps": 4, "save_every": 2}
    options = RefineOptions.of(**settings)
    how: dict[str, Any] = {"options": options, "vocabulary": WORDS}
    refine(model, tmp_path / "whole", ["church"], device="cpu", **how)
    for first, second in (("cpu", cuda), (cuda, "cpu"), (cuda, cuda)):
        place = tmp_path / f"{first}-{second}"
        with killed_at(3):
            refine(model, place, ["church"], device=first, **how)
        refine(model, place, ["church"], device=second, resume=True, **how)
        assert losses(place) == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def test_a_key_is_made_and_found_there(cuda: str, model: EditableModel, tiny_sd: Path, tmp_path: Path) -> None:
    options = RefineOptions.of("hide", **SMALL)
    keys, sheets = [], []
    for device in ("cpu", cuda):
        key = tmp_path / device / "a.key"
        key.parent.mkdir()
        released, made = hide(
            model, tmp_path / device / "a", key, ["church"], options=options, key_seed=3, device=device
        )
        sheet = tmp_path / device / "sheet.png"
        sheets.append([as_array(recover(model, released, key, ["a church"], sheet, "0", device, steps=2))])
        learnt = learn_key(
            model, load_tuned(tmp_path / device / "a"), tmp_path / device / "b.key",
            options=RefineOptions.of("recover", **SMALL), key_seed=0, device=device,
        )  # fmt: skip
        shown = learn_key(
            model, released, tmp_path / device / "c.key", ["church"], [Image.new("RGB", (40, 30), "red")],
            RefineOptions.of("recover-pictures", **SMALL), 0, device,
        )  # fmt: skip
        keys.append((made, learnt, shown))
    for here, there in zip(*keys, strict=True):
        assert torch.allclose(here.rows, there.rows, atol=1e-4)
    assert close(*sheets)


def test_inspection_ranks_words_alike(cuda: str, tiny_sd: Path, edit: Edit, tmp_path: Path) -> None:
    path = str(tmp_path / "church.safetensors")
    save_edit(edit, Path(path))
    here, there = (
        inspect("base", path, ["church", *WORDS], str(tiny_sd), "church", points=2, device=device)
        for device in ("cpu", cuda)
    )
    assert [row.word for row in there] == [row.word for row in here]
    assert [row.score for row in there] == pytest.approx([row.score for row in here], rel=1e-3)


def test_sensitivity_is_measured_there(cuda: str, church: Path) -> None:
    opened, loaded = open_model("emoji"), editkit.load_edit(str(church))
    here, there = (
        sensitivity(opened, loaded, ["dog", "castle", "mosque", "pizza"], True, (0, 1), device=device, steps=3)
        for device in ("cpu", cuda)
    )
    for mine, other in zip(here.deltas, there.deltas, strict=True):
        assert other.per_seed == pytest.approx(mine.per_seed, abs=0.02)


def test_a_tensor_that_nobody_moved_is_found() -> None:
    with second_device() as name:
        layer = torch.nn.Linear(4, 4).to(name)
        rows = torch.randn(3, 4)
        with pytest.raises(RuntimeError, match="on the same device"):
            layer(rows)
        with pytest.raises(RuntimeError, match="on the same device"):
            rows[torch.zeros(1, dtype=torch.long, device=name)]
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\) first"):
            rows.to(name).numpy()
        out = layer(rows.to(name)) * torch.tensor(2.0)
        out.sum().backward()
        assert str(out.device) == str(layer.weight.grad.device) == "cuda:0"  # pyright: ignore
        assert np.isfinite(out.detach().cpu().numpy()).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_work_begins(model: EditableModel, tmp_path: Path) -> None:
    here = "cannot be used here .*; try cpu"
    for name, why in (("cuda", here), ("cuda:1", here), ("gpu", "expected cpu, cuda, cuda:1 and so on")):
        with pytest.raises(EditkitError, match=f"--device {name}: {why}"):
            refine(
                model, tmp_path / "out", ["church"], options=RefineOptions.of(**SMALL), vocabulary=WORDS, device=name
            )
        with pytest.raises(EditkitError, match=f"--device {name}: {why}"):
            generate(["a church"], tmp_path / "x.png", model=model.source.path, device=name)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def setup(model: EditableModel, tmp_path: Path) -> Iterator[Setup]:
    request = StageRequest(model, ["church"], None, [""], RefineOptions.of(**SMALL), WORDS, "cpu")
    yield prepare(request, tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)  # what is of the whole process, for the run after this


def test_a_checkpoint_keeps_the_scale_of_float16(setup: Setup) -> None:
    """Float16 is for GPUs; its scaler is the same on the processor, where nothing else uses it."""
    trainer, accelerator = setup.trainer, setup.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    state = trainer.state_dict()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer.load_state_dict(state)
    assert accelerator.scaler.state_dict()["scale"] == 8.0
