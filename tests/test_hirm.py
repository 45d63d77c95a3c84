"""`hirm`: the first layer of the text encoders, trained; against losses by hand, and wherever an edit goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import editkit
from editkit.drawing.pipelines import denoiser_of, open_denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.model.encoder_weights import encoders_of
from editkit.redteam.cost import Cost
from editkit.redteam.victim import Victim
from editkit.tuning.encoders import EncoderTrainer
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.variants.verify import verify
from tests.cli import run
from tests.killed import killed_at

FAST: dict[str, Any] = {"steps": 4, "rate": 1e-3}


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    folder = tmp_path_factory.mktemp("hirm") / "misread"
    options = RefineOptions.of("hirm", open_model("emoji").profile, steps=30, rate=1e-3)
    return folder, refine("emoji", folder, ["church"], guides=["castle"], options=options, device="cpu")


def trainer_of(model: EditableModel, guides: list[str], concepts: list[str], **given: Any) -> EncoderTrainer:
    options = RefineOptions.of("hirm", model.profile, **{**FAST, **given})
    return EncoderTrainer.of(StageRequest(model, concepts, None, guides, options), torch.device("cpu"))


@pytest.mark.parametrize("guides", [["castle", "cat"], [""]])
def test_the_first_layer_is_led_by_the_gradient_that_the_equation_has(guides: list[str], model: EditableModel) -> None:
    """In float64, by stock transformers, on states whose targets stay where they were."""
    trainer = trainer_of(model, guides, ["church", "dog"])
    pipe = editkit.load("emoji")
    encoder = pipe.text_encoder.double()

    def states(prompt: str) -> Tensor:
        ids = pipe.tokenizer(
            prompt, padding="max_length", max_length=24, truncation=True, return_tensors="pt"
        ).input_ids
        return encoder(ids).last_hidden_state[0]

    templates = model.profile.refine.templates
    concepts = [(concept, guides[n] if len(guides) > 1 else "") for n, concept in enumerate(("church", "dog"))]
    prompts = [
        (form.format(concept), form.format(guide) if guide else "") for concept, guide in concepts for form in templates
    ]
    assert [prompt for prompt, _ in prompts] == list(trainer.prompts)
    if guides == [""]:
        targets = [each.text[0].double() for each in trainer.targets]
        assert all(torch.allclose(each.norm(dim=-1), torch.tensor(500.0, dtype=torch.float64)) for each in targets)
        assert len({round(float(row[0]), 6) for each in targets for row in each}) == 24 * len(prompts), "one a token"
    else:
        targets = [states(guide).detach() for _, guide in prompts]
    loss = torch.stack(
        [(states(prompt) - target).square().sum(1).mean() for (prompt, _), target in zip(prompts, targets, strict=True)]
    ).mean()
    loss.backward()
    step = trainer.step(0)
    assert step.loss == pytest.approx(float(loss.detach()), rel=1e-5) and step.rows == trainer.rows == len(prompts)
    layer = dict(encoder.encoder.layers[0].named_parameters())
    assert {*trainer.weights} == {f"text_encoder/encoder.layers.0.{name}" for name in layer}
    for name, weight in layer.items():
        mine = trainer.weights[f"text_encoder/encoder.layers.0.{name}"].grad
        assert mine is not None and weight.grad is not None
        np.testing.assert_allclose(mine, weight.grad, atol=2e-4 * float(weight.grad.abs().max()) + 1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux1"])
def test_every_text_encoder_of_a_family_learns(name: str, tiny_streams: Callable[[str], Path], tmp_path: Path) -> None:
    """Its rows and its pooled vector go to those of the guide, its other layers stay; the export is verified."""
    model = open_model(tiny_streams(name))
    trainer = trainer_of(model, ["dog"], ["church"], steps=20, rate=3e-3)
    before = trainer.denoiser.pipe.components
    frozen = {
        f"{part}/{key}": value.clone() for part in encoders_of(trainer.weights)
        for key, value in before[part].state_dict().items()
    }  # fmt: skip
    first, *others = [trainer.step(i).loss for i in range(20)]
    assert others[-1] < 0.5 * first
    now = {
        f"{part}/{key}": value
        for part in encoders_of(trainer.weights)
        for key, value in before[part].state_dict().items()
    }
    changed = {key.replace("text_model.", "") for key, value in now.items() if not torch.equal(value, frozen[key])}
    assert changed <= {*trainer.weights} and {key.split("/")[0] for key in changed} == {
        part for part in before if part.startswith("text_encoder")
    }
    tuned = trainer.tuned(model.source, {"family": name, "text_encoder_sha256": model.text_encoder_sha256})
    editkit.export(tuned, model, tmp_path / "out", "diffusers")
    assert verify(tmp_path / "out", tuned, model.source.path).scope == "whole"
    drawn = open_denoiser(tmp_path / "out").encode(["a church"])[0][0]
    wanted = trainer.denoiser.encode(["a church"])[0][0]
    assert torch.allclose(drawn.text, wanted.text, atol=1e-5)


def test_a_killed_run_resumes_to_the_same_bits(model: EditableModel, tmp_path: Path) -> None:
    options = RefineOptions.of("hirm", model.profile, **FAST, save_every=2)
    whole = refine(model, tmp_path / "a", ["church"], options=options, device="cpu")
    with killed_at(3, EncoderTrainer):
        refine(model, tmp_path / "b", ["church"], options=options, device="cpu")
    resumed = refine(model, tmp_path / "b", ["church"], options=options, device="cpu", resume=True)
    assert all(torch.equal(W, resumed.tensors[name]) for name, W in whole.tensors.items())
    assert resumed.record["figures"]["encodings"] == 4 * len(model.profile.refine.templates)


def test_it_draws_as_a_stock_pipeline_with_that_encoder_and_is_taken_out_to_the_bit(
    trained: tuple[Path, Tuned], tmp_path: Path
) -> None:
    folder, tuned = trained
    denoiser, sampling = open_denoiser("emoji"), Sampling(steps=4)
    before = {key: value.clone() for key, value in denoiser.pipe.text_encoder.state_dict().items()}
    wanted = jobs(["a church", "a dog"], [3], 2)
    drawn = {job: np.asarray(picture) for job, picture in draw(denoiser, wanted, [None, tuned], sampling)}
    assert all(torch.equal(value, before[key]) for key, value in denoiser.pipe.text_encoder.state_dict().items())
    run("export", folder, "--format", "text-encoder", "--out", "te.safetensors", cwd=tmp_path)
    stock = editkit.load("emoji")
    stock.text_encoder.load_state_dict(load_file(tmp_path / "te.safetensors"), strict=True)
    alone = {
        job: np.asarray(picture)
        for job, picture in draw(denoiser_of(stock), jobs(["a church", "a dog"], [3]), sampling=sampling)
    }
    for job, picture in alone.items():
        edited = drawn[next(other for other in wanted if (other.prompt, other.variant) == (job.prompt, 1))]
        assert np.abs(picture.astype(int) - edited).max() <= 1
    church, dog = (np.abs(drawn[a].astype(int) - drawn[b]).mean() for a, b in (wanted[:2], wanted[2:]))
    assert church > dog


def test_an_attack_asks_the_encoder_that_was_trained(trained: tuple[Path, Tuned]) -> None:
    denoiser, tuned = open_denoiser("emoji"), trained[1]
    victim, cost = Victim.of(denoiser, tuned), Cost()
    raw = victim.raw(["a church"], cost)
    plain = Victim(denoiser).raw(["a church"], cost)
    assert torch.equal(raw.text, victim.condition(plain, "a church").text)
    assert float((raw.text - plain.text).norm()) > 1
    assert torch.equal(victim.condition(plain).text, plain.text), "rows that an attacker writes go in as they are"
    away = Victim(denoiser).raw(["nothing"], cost)
    assert torch.equal(victim.away(away, "nothing").text, victim.raw(["nothing"], cost).text)


def test_a_model_is_verified_to_be_the_base_with_that_encoder(trained: tuple[Path, Tuned], tmp_path: Path) -> None:
    folder, tuned = trained
    editkit.export(tuned, open_model("emoji"), tmp_path / "model", "diffusers")
    assert verify(tmp_path / "model", tuned, "emoji").answer == "yes"
    assert "text encoder has the recorded hash" not in verify(tmp_path / "model", tuned).why
    assert verify("emoji", folder).answer == "no"
    found = verify(tmp_path / "model", editkit.erase("emoji", ["church"], vocabulary=["dog", "house"]))
    assert found.answer == "no" and "text encoder" in found.why


def test_the_plan_is_of_the_encoders_alone(model: EditableModel) -> None:
    plan = plan_memory(model.source, RefineOptions("hirm"), "cpu")
    encoder = open_denoiser("emoji").pipe.text_encoder
    layer = sum(weight.numel() for weight in encoder.encoder.layers[0].parameters())
    assert plan.parts["weights"] == 4 * sum(weight.numel() for weight in encoder.parameters())
    assert plan.parts["optimizer"] == 8 * layer and plan.parts["activations"] > 0


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("export", "EDIT", "--format", "kv", "--out", "x"), "holds no weights of the text encoders"),
        (("export", "EDIT", "--format", "text-encoder", "--component", "vae", "--out", "x"), "was not trained"),
        (("refine", "EDIT", "--objective", "esd", "--out", "x"), "the start trained the text encoders (hirm)"),
        (("refine", "--objective", "hirm", "--concept", "church", "--lamb", "3", "--out", "x"), "--lamb: "),
        (("refine", "--objective", "hirm", "--concept", "church", "--tracker", "csv", "--out", "x"), "--tracker csv: "),
        (("harden", "EDIT", "--out", "x"), "is no linear map"),
    ],
)  # fmt: skip
def test_what_an_encoder_cannot_do_is_told_in_a_line(
    asked: tuple[str, ...], says: str, trained: tuple[Path, Tuned], tmp_path: Path
) -> None:
    said = run(*(str(trained[0]) if word == "EDIT" else word for word in asked), cwd=tmp_path, code=1)
    assert says in " ".join(said.split()) and not (tmp_path / "x").exists()


def test_an_edit_of_the_denoiser_is_neither_its_start_nor_a_text_encoder(model: EditableModel, tmp_path: Path) -> None:
    edit = editkit.erase(model, ["church"], vocabulary=["dog", "house"])
    with pytest.raises(EditkitError, match=r"--format text-encoder: holds no weights of the denoiser"):
        editkit.export(edit, model, tmp_path / "x", "text-encoder")
    with pytest.raises(EditkitError, match="leave out the edit to start from"):
        refine(model, tmp_path / "x", start=edit, options=RefineOptions("hirm"), device="cpu")
