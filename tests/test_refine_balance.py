"""Balancing by gradient: what its best student is, which points it has in which shares, and what a run says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from editkit.concepts.attributes import Attribute
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.batches import Batches
from editkit.tuning.denoisers import Denoisers
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.tuning.setup import prepare
from tests.cli import run

SMALL: dict[str, Any] = {
    "batch": 2, "sampling_steps": 2, "rate": 1e-3, "mixed_precision": "no", "param": "kv", "k": 2, "search": "exact",
}  # fmt: skip
WORDS = ["dog", "pizza", "castle"]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def test_the_mean_target_at_a_latent_is_what_the_mixture_itself_predicts() -> None:
    """In one dimension, with pictures that are normal: `E[ε | z]` by Tweedie's formula from the density of noisy
    mixtures, against the targets weighed by how often each attribute's own latents are there."""
    means, widths, shares = np.array([-2.0, 1.5]), np.array([0.3, 0.5]), np.array([0.3, 0.7])
    z = np.linspace(-4, 4, 801)[:, None]
    for alpha in (0.05, 0.6, 0.999):
        sigma = np.sqrt(1 - alpha**2)
        spread = np.sqrt((alpha * widths) ** 2 + sigma**2)
        density = np.exp(-((z - alpha * means) ** 2) / (2 * spread**2)) / spread
        targets = sigma * (z - alpha * means) / spread**2
        weighed = (shares * density * targets).sum(1) / (shares * density).sum(1)
        log = np.log((shares * density).sum(1))
        tweedie = -sigma * np.gradient(log, z[:, 0])
        np.testing.assert_allclose(weighed[5:-5], tweedie[5:-5], atol=2e-3 * np.abs(tweedie).max())
        if alpha == 0.999:  # a latent that shows one attribute goes on with that one, unlike a mean of both
            for mean, target in zip(means, targets.T, strict=True):
                at = int(np.abs(z[:, 0] - alpha * mean).argmin())
                assert weighed[at] == pytest.approx(target[at], abs=1e-3)


def test_points_come_in_the_wanted_shares() -> None:
    options = RefineOptions("debias", batch=20000)
    none: Any = None
    passes: Any = SimpleNamespace(prompts=SimpleNamespace(count=4))
    batches = Batches(options, passes, none, none, None, (0.1, 0.4, 0.1, 0.4))
    counts = torch.bincount(batches._concepts(torch.Generator().manual_seed(0)), minlength=4) / 20000
    assert torch.allclose(counts, torch.tensor([0.1, 0.4, 0.1, 0.4]), atol=0.02)


def asked(model: EditableModel, objective: str = "debias", **given: Any) -> StageRequest:
    options = RefineOptions.of(objective, model.profile, **SMALL, **given)
    return StageRequest(
        model, ["cook", "judge"], None, (), options, WORDS, "cpu", attributes=["man", "woman"], ratios=[0.25, 0.75]
    )


def test_every_concept_has_every_attribute_for_a_target_on_the_teachers_own_latents_of_it(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(model)
    assert request.asked == [
        ("cook", "man cook"), ("cook", "woman cook"), ("judge", "man judge"), ("judge", "woman judge"),
    ]  # fmt: skip
    assert request.shares == (0.125, 0.375, 0.125, 0.375)
    setup = prepare(request, tmp_path)
    prompts, templates = setup.trainer.passes.prompts, model.profile.refine.templates
    assert prompts.words[0] == ("man cook", "woman cook", *prompts.words[0][2:]) == prompts.words[1]
    assert prompts.words[2][:2] == ("man judge", "woman judge") and len(prompts.words) == 4
    texts = [template.replace("{}", "woman judge") for template in templates]
    known = setup.denoiser.encode(texts)[0]
    number = torch.full((len(templates),), 3)
    found = prompts.n(number, torch.arange(len(templates)))
    assert torch.allclose(found.text, torch.cat([row.text for row in known]), atol=1e-5)
    seen: list[Tensor] = []
    teacher = Denoisers.teacher

    def watched(self: Denoisers, z: Tensor, t: Tensor, condition: Any) -> Tensor:
        seen.append(condition.text)
        return teacher(self, z, t, condition)

    def student(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("the student drew latents")

    monkeypatch.setattr(Denoisers, "teacher", watched)
    monkeypatch.setattr(Denoisers, "student", student)
    setup.trainer.batches.draw(0)
    guides = {tuple(row.flatten()[:8000:97].tolist()) for row in prompts.known[prompts.guides.flatten()].text}
    away = tuple(prompts.away.text.flatten()[:8000:97].tolist())
    assert {tuple(row.flatten()[:8000:97].tolist()) for batch in seen for row in batch} <= {*guides, away}


def test_the_form_of_the_talk_looks_for_its_target_among_the_attributes_alone(
    model: EditableModel, tmp_path: Path
) -> None:
    request = asked(model, "debias-age")
    assert request.asked == [("cook", ""), ("judge", "")] and request.shares == ()
    words = prepare(request, tmp_path).trainer.passes.prompts.words
    assert words == (("man cook", "woman cook"), ("man judge", "woman judge"))


def test_a_run_writes_down_its_attributes_and_goes_on_with_the_same_alone(model: EditableModel, tmp_path: Path) -> None:
    options = RefineOptions.of("debias", model.profile, **SMALL, steps=2)
    named = [Attribute.of("man"), Attribute("woman", "dark woman {}", ("woman",))]

    def go(ratios: list[float] | None = None, resume: bool = False, steps: int = 2) -> Any:
        return refine(
            model, tmp_path / "out", ["cook"], None, (), replace(options, steps=steps), WORDS, "cpu", resume,
            attributes=named, ratios=ratios,
        )  # fmt: skip

    tuned = go([0.25, 0.75])
    assert tuned.record["method"] == "debias" and tuned.record["attributes"] == [
        {"name": "man", "phrase": "man {}", "ratio": 0.25},
        {"name": "woman", "phrase": "dark woman {}", "ratio": 0.75},
    ]
    with pytest.raises(EditkitError, match=r"of a run with attributes .*; resume with the same options"):
        go(resume=True, steps=3)
    assert go([0.25, 0.75], resume=True, steps=3).record["figures"]["steps"] == 3


@pytest.mark.parametrize(
    ("objective", "given", "says"),
    [
        ("ap", {"attributes": ["man", "woman"]}, "--objective ap balances nothing; use --objective debias"),
        ("debias", {}, "--attribute: expected two or more to balance between, got none"),
        ("debias", {"attributes": ["man", "woman"], "ratios": [0.5, 0.6]}, "expected shares that sum to 1, got 1.1"),
        ("debias", {"attributes": ["man", "woman"], "guides": ["dog"]}, "--guide: --objective debias has the"),
    ],
)
def test_attributes_that_cannot_be_are_told(
    objective: str, given: dict[str, Any], says: str, model: EditableModel
) -> None:
    options = RefineOptions.of(objective, model.profile)
    more = {name: value for name, value in given.items() if name != "guides"}
    with pytest.raises(EditkitError, match=says):
        StageRequest(model, ["cook"], None, given.get("guides", ()), options, **more)


def test_the_command_balances(tmp_path: Path) -> None:
    words = ["refine", "--concept", "cook", "--objective", "debias", "--attribute", "man", "--attribute", "woman"]
    words += ["--ratios", "0.3,0.7", "--steps", "1", "--sampling-steps", "2", "--k", "2", "--search", "exact"]
    run(*words, "--device", "cpu", "--out", "fair", cwd=tmp_path)
    record = json.loads(run("info", "fair", "--json", cwd=tmp_path))
    assert [each["ratio"] for each in record["attributes"]] == [0.3, 0.7]
    both = run(*words, "--attributes-file", "some.toml", cwd=tmp_path, code=1)
    assert "--attribute and --attributes-file: give one of them" in both
