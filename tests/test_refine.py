"""The gradient stage as a run: points, resuming, interruptions, parameters, and what comes of it."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.sd import StableDiffusion
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.model.apply import applied
from editkit.model.checkpoints.projections import read_component
from editkit.model.editable import EditableModel, open_model
from editkit.tuning import loop
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.latents import Sampler
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from tests.killed import killed_at
from tests.test_refine_losses import denoisers, tiny_unet

WORDS = ["dog", "cat", "tree", "house", "car", "river", "mountain", "table"]
SMALL: dict[str, Any] = {"batch": 2, "k": 4, "sampling_steps": 4, "steps": 4, "rate": 1e-3, "mixed_precision": "no"}


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


@pytest.fixture(scope="module")
def edit(model: EditableModel) -> editkit.Edit:
    return editkit.erase(
        model, ["church"], [" "], options=Options("uce", protect="none"), vocabulary=WORDS, checked=False
    )


def run(model: EditableModel, out: Path, resume: bool = False, start: Any = None, **options: Any) -> Tuned:
    concepts = () if start is not None else ("church", "boat")
    return refine(
        model, out, concepts, start, options=RefineOptions.of(**{**SMALL, **options}), vocabulary=WORDS, device="cpu",
        resume=resume,
    )  # fmt: skip


def equal(tuned: Tuned, other: Tuned) -> bool:
    tensors = all(tuned.tensors[name].equal(value) for name, value in other.tensors.items())
    factors = [(tuned.factors[name], value) for name, value in other.factors.items()]
    return tensors and all(a.up.equal(b.up) and a.down.equal(b.down) for a, b in factors)


def bare(scheduler: Any) -> Any:
    """A scheduler, and latents of two channels; no network."""
    config, here = SimpleNamespace(in_channels=2, sample_size=4), torch.device("cpu")
    network = SimpleNamespace(config=config, dtype=torch.float32)
    return StableDiffusion(SimpleNamespace(scheduler=scheduler, unet=network, device=here, _execution_device=here))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_latents_are_at_the_step_that_they_are_labelled_with(kind: str) -> None:
    """With a network that knows the picture x₀ and its noise, a trajectory is `add_noise` at every t."""
    from diffusers import DDIMScheduler

    zero_snr = kind == "v_prediction"
    settings: Any = {
        "prediction_type": kind,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "timestep_spacing": "trailing" if zero_snr else "leading",
        "rescale_betas_zero_snr": zero_snr,
    }
    scheduler: Any = DDIMScheduler(**settings)
    known = scheduler.alphas_cumprod.double()
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    seen: dict[str, Tensor] = {}

    class Oracle:
        counter = denoisers(tiny_unet()).counter

        def student(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
            rows = len(z) // 2
            a = known[t][:rows, None, None, None]
            mine = clean[:rows]
            noise = seen.setdefault(str(rows), (z[:rows] - a.sqrt() * mine) / (1 - a).sqrt())
            out = noise if kind == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * mine
            return torch.cat([out, out])

    oracle: Any = Oracle()
    sampler = Sampler(oracle, bare(scheduler), Sampling(steps=10, guidance=3.0))
    concept = torch.tensor([0, 1])
    texts = lambda concept, template: Condition(torch.zeros(len(concept), 5, 6))  # noqa: E731
    neutral = Condition(torch.zeros(1, 5, 6))
    points = sampler.bank(concept, concept, texts, neutral, generator)
    assert len(points) == 20 and len(points.t.unique()) == 10
    for row in range(len(points)):
        which = int(points.concept[row])
        wanted = scheduler.add_noise(clean[which], seen["2"][which], points.t[row])
        assert torch.allclose(points.z[row].double(), wanted, atol=1e-5)
    for seed in range(5):
        seen.clear()
        fresh = sampler.fresh(concept[:1], concept[:1], texts, neutral, torch.Generator().manual_seed(seed))
        if seen:  # a trajectory cut before its first step asks for nothing
            wanted = scheduler.add_noise(clean[0], seen["1"][0], fresh.t[0])
            assert torch.allclose(fresh.z[0].double(), wanted, atol=1e-5)


VARIANTS: list[dict[str, Any]] = [
    {"search": "gumbel", "refresh": 7},
    {"search": "gumbel", "recipe": "authors", "bank": False, "batch": 1},
    {"search": "exact", "search_every": 3, "refresh": 4},
    {"search": "closed-form", "search_every": 3},
    {"objective": "age", "search": "gumbel", "accumulate": 2},
    {"objective": "ca"},
    {"param": "lora:2", "search": "closed-form", "search_every": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(str(value) for value in options.values()))
def test_a_killed_run_resumes_to_the_same_bits(
    options: dict[str, Any], model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps against 6, two more that are lost, and 6 again."""
    options = {**options, "steps": 12, "save_every": 6}
    whole = run(model, tmp_path / "a", **options)
    with killed_at(8):
        run(model, tmp_path / "b", **options)
    resumed = run(model, tmp_path / "b", resume=True, **options)
    assert equal(whole, resumed)
    log = [[json.loads(line) for line in (tmp_path / name / loop.LOG).open()] for name in "ab"]
    assert [step["step"] for step in log[1]] == list(range(1, 13))
    assert [step["loss"] for step in log[0]] == [step["loss"] for step in log[1]]
    assert [step["found"] for step in log[0]] == [step["found"] for step in log[1]]


def test_a_resumed_run_must_be_the_same_run(model: EditableModel, tmp_path: Path) -> None:
    run(model, tmp_path / "a", steps=2)
    with pytest.raises(editkit.EditkitError, match=r"of a run with lamb 1\.0, not 2\.0; resume with the same options"):
        run(model, tmp_path / "a", resume=True, lamb=2.0)
    with pytest.raises(editkit.EditkitError, match="--resume to go on, or --force to start again"):
        run(model, tmp_path / "a")
    with pytest.raises(editkit.EditkitError, match="no checkpoint to resume from"):
        run(model, tmp_path / "b", resume=True)
    (tmp_path / "a" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(editkit.EditkitError, match="cannot be read as a checkpoint"):
        run(model, tmp_path / "a", resume=True)


def test_a_folder_of_something_else_is_not_replaced(model: EditableModel, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(editkit.EditkitError, match="give another --out"):
        refine(model, tmp_path, ["church"], options=RefineOptions(steps=1), vocabulary=WORDS, force=True)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, tmp_path / "a", steps=2)
    kept = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    student = Denoisers.student
    monkeypatch.setattr(Denoisers, "student", lambda self, *a, **b: student(self, *a, **b) * float("inf"))
    with pytest.raises(editkit.EditkitError, match=r"the loss is (nan|inf) at step 2; the last checkpoint is kept"):
        run(model, tmp_path / "a", resume=True, steps=4)
    assert (tmp_path / "a" / "checkpoint.pt").read_bytes() == kept


def test_out_of_memory_says_what_helps(model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **how: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Denoisers, "student", full)
    with pytest.raises(editkit.EditkitError, match="--gradient-checkpointing, --param kv, --param lora:16"):
        run(model, tmp_path / "a", steps=1)


PARAMETERS = {
    "xattn": lambda name: "attn2" in name,
    "kv": lambda name: "attn2.to_k" in name or "attn2.to_v" in name,
    "selfattn": lambda name: "attn1" in name,
    "noxattn": lambda name: not any(part in name for part in ("attn2", "time_embedding", "conv_norm_out", "conv_out")),
    "full": lambda name: True,
}


@pytest.mark.parametrize("param", PARAMETERS)
def test_a_group_changes_its_parameters_and_no_other(param: str, model: EditableModel, tmp_path: Path) -> None:
    tuned = run(model, tmp_path / "a", param=param, objective="esd", steps=2)
    pipe = editkit.load(model.source)
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    with applied(pipe, tuned):
        changed = {name for name, value in pipe.unet.state_dict().items() if not value.equal(before[name])}
    assert all(value.equal(before[name]) for name, value in pipe.unet.state_dict().items())
    assert changed and changed <= set(tuned.names)
    assert set(tuned.names) == {name for name in before if PARAMETERS[param](name)}


def test_sizes_of_the_groups_on_sd14() -> None:
    """Tensors and parameters of SD 1.4, as the papers count them."""
    from diffusers import UNet2DConditionModel

    from editkit.model.families.table import by_name
    from editkit.tuning.parameters import Parameters

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    sizes = {}
    for name in PARAMETERS:
        inside = [value for key, value in unet.named_parameters() if Parameters.parse(name).of(by_name("sd1"))(key)]
        sizes[name] = len(inside), round(sum(value.numel() for value in inside) / 1e6, 2)
    assert sizes["xattn"] == (80, 43.96) and sizes["kv"] == (32, 19.17)
    assert sizes["full"][1] == 859.52 and sizes["noxattn"][1] == pytest.approx(813.5, abs=0.1)


@pytest.mark.parametrize("text", ["lora", "lora:0", "attn9", "xattn:3", "attn9+lora:4"])
def test_unknown_parameters_are_refused(text: str) -> None:
    with pytest.raises(
        editkit.EditkitError, match="--param: must be one of xattn, kv, selfattn, noxattn, blocks, text, full, or lora"
    ):
        RefineOptions(param=text)


def test_a_warm_start_begins_at_the_edit_and_its_teacher_at_the_model(
    model: EditableModel, edit: editkit.Edit, tmp_path: Path
) -> None:
    tuned = run(model, tmp_path / "a", start=edit, steps=1, rate=1e-12, search="exact")
    edited = edit.weights(model.projections)
    assert all(torch.allclose(tuned.tensors[name], W, atol=1e-6) for name, W in edited.items())
    entry = json.loads((tmp_path / "a" / loop.LOG).read_text())
    assert entry["preserve"] > 1e-6  # the student is not the teacher
    cold = run(model, tmp_path / "b", steps=1, search="exact")
    assert cold.record["figures"]["preserve_mean"] < 1e-9


def test_a_warm_start_stores_what_is_trained_and_what_the_edit_changed_and_nothing_else(
    model: EditableModel, edit: editkit.Edit, tmp_path: Path
) -> None:
    assert edit.is_global
    idle = editkit.Edit({"*": editkit.EditMap.identity(edit.map.width)}, edit.record)
    own = {*read_component(model.source, "unet")}
    trained = {name for name in own if "attn1" in name}
    tuned = run(model, tmp_path / "a", start=edit, steps=1, param="selfattn")
    assert {*tuned.tensors} == trained | {*model.projections} < own
    changed = edit.weights(model.projections)
    assert all(torch.allclose(tuned.tensors[name], W, atol=1e-6) for name, W in changed.items())
    assert {*run(model, tmp_path / "b", start=idle, steps=1, param="selfattn").tensors} == trained


def test_a_lora_on_a_warm_start_holds_both(model: EditableModel, edit: editkit.Edit, tmp_path: Path) -> None:
    tuned = run(model, tmp_path / "a", start=edit, steps=3, param="lora:2", search="closed-form")
    assert tuned.is_low_rank and not tuned.tensors
    whole = run(model, tmp_path / "b", start=edit, steps=1, rate=1e-12, param="lora:2", search="closed-form")
    now = whole.weights(model.tensors(whole))
    assert all(torch.allclose(now[name], W, atol=1e-5) for name, W in edit.weights(model.projections).items())
    first = [json.loads((tmp_path / name / loop.LOG).read_text().splitlines()[0])["preserve"] for name in "ab"]
    copied = run(model, tmp_path / "c", start=edit, steps=1, search="closed-form")
    assert first[0] == pytest.approx(first[1]) == pytest.approx(copied.record["figures"]["preserve_mean"], rel=1e-3)


def test_the_words_that_are_searched_leave_out_what_is_erased(model: EditableModel, tmp_path: Path) -> None:
    words = ["church", "churches", "boat", "dog", "cat", "tree", "photo"]
    refine(
        model, tmp_path / "a", ["church", "boat"], guides=["photo"], vocabulary=words, device="cpu",
        options=RefineOptions.of(**{**SMALL, "search": "exact", "k": 100}),
    )  # fmt: skip
    searched = {word for line in (tmp_path / "a" / loop.LOG).open() for word in json.loads(line)["found"]}
    assert searched and searched <= {"dog", "cat", "tree"}


def test_a_bank_is_drawn_once_and_without_it_every_point_is(model: EditableModel, tmp_path: Path) -> None:
    """With 50 steps and a bank that serves 100 that is a tenth of the passes: `AP, 50 steps` of the committed table."""
    steps, sampling = 12, 16
    usual: dict[str, Any] = {"batch": 1, "steps": steps, "sampling_steps": sampling, "save_every": 1000}
    with_bank, without = (
        run(model, tmp_path / str(bank), bank=bank, refresh=steps, **usual).record["figures"]["passes"]
        for bank in (True, False)
    )
    # two concepts, 16 steps, 15 of them guided, once; and the teacher's neutral output for each of the 32 points
    once = 2 * (sampling - 1) * 2
    assert with_bank == {"latents": once, "loss": 2 * sampling + steps * 3, "search": steps * 2 * 2}
    assert without["loss"] == steps * 4 and without["search"] == with_bank["search"]
    points = steps * 3  # one for each of both updates of the searched concept, one for that of the student
    assert 0.25 * points * sampling * 2 < without["latents"] < 0.75 * points * sampling * 2


def test_a_bank_is_drawn_anew_when_it_was_used_once(model: EditableModel, tmp_path: Path) -> None:
    """Two concepts of four points each: 8 points, 6 a step with the two inner steps of the search, 2 without."""
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 2), ({"objective": "esd"}, 1), ({"refresh": 1}, 4), ({"refresh": 9}, 1),
    ]  # fmt: skip
    for options, banks in cases:
        out = tmp_path / "-".join(f"{name}{value}" for name, value in options.items())
        passes = run(model, out / "run", sampling_steps=4, **options).record["figures"]["passes"]
        assert passes["latents"] == banks * 2 * 3 * 2, options


@pytest.mark.slow
@pytest.mark.parametrize("name", ["refine", "hide", "recover", "RefineOptions"])
def test_the_examples_of_public_names_hold(name: str) -> None:
    public = getattr(editkit, name)
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(recurse=False).find(public, name, globs={name: public}):
        runner.run(example)
    assert runner.tries > 0 and runner.failures == 0
