"""`learned`: the state that draws a concept, against gradients written out by hand; and a run of `aegis`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.denoisers import PassCounter
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.search.learned import Learned, LearnedFinder
from tests.cases import randn
from tests.killed import killed_at

BETA = 0.25
TEXT, POOLED = randn(1, 2, 3, 4), randn(2, 2, 5)
STUDENT, TEACHER = randn(3, 4, 6), randn(4, 4, 6)


def network(weight: Tensor) -> Any:
    """Of latents `(rows, 1, 1, 6)`: a square of what the prompt says, so that gradients depend on the state."""
    return lambda z, t, read: z + ((read.text @ weight).sum(1).square() + read.pooled.sum(1)[:, None])[:, None, None]


def request(points: Points, micro: int) -> Any:
    networks = SimpleNamespace(student=network(STUDENT), teacher=network(TEACHER), counter=PassCounter())
    prompts = SimpleNamespace(count=2, e=lambda concept, template: Condition(TEXT[concept], POOLED[concept]))
    return SimpleNamespace(
        outer=points, prompts=prompts, passes=SimpleNamespace(networks=networks, prompts=prompts),
        counter=networks.counter, reduced=lambda gradient: gradient,
        parts=lambda given: ((None, given[n : n + micro]) for n in range(0, len(given), micro)),
    )  # fmt: skip


def begun(points: Points) -> LearnedFinder:
    ground: Any = SimpleNamespace(prompts=request(points, 1).prompts, device=torch.device("cpu"))
    return Learned(beta=BETA).begin(ground)


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_state_steps_along_the_sign_of_the_gradient_that_the_equation_has(micro: int, is_known: bool) -> None:
    concept, z = torch.tensor([0, 1, 1, 0]), randn(5, 4, 1, 1, 6)
    was = z + ((TEXT[concept] @ TEACHER).sum(1).square() + POOLED[concept].sum(1)[:, None])[:, None, None]
    points = Points(z, concept, concept, concept, e=was if is_known else None)
    finder = begun(points)
    expected_text, expected_pooled = TEXT.clone(), POOLED.clone()
    for _ in range(3):
        found = finder.find(request(points, micro)).searched
        text, pooled = (value.clone().requires_grad_() for value in (expected_text, expected_pooled))
        loss = torch.tensor(0.0, dtype=torch.float64)
        for c in concept.tolist():
            said = (text[c] @ TEACHER).sum(0).square() + pooled[c].sum()
            now = (TEXT[c] @ STUDENT).sum(0).square() + POOLED[c].sum()
            then = (TEXT[c] @ TEACHER).sum(0).square() + POOLED[c].sum()
            loss = loss + ((said - now) ** 2).sum() + ((said - then) ** 2).sum()
        one, other = torch.autograd.grad(loss, [text, pooled])
        expected_text, expected_pooled = expected_text - BETA * one.sign(), expected_pooled - BETA * other.sign()
        assert torch.allclose(found.text, expected_text[concept]) and not found.text.requires_grad
        assert found.pooled is not None and torch.allclose(found.pooled, expected_pooled[concept])


def test_the_state_of_a_search_comes_back() -> None:
    concept = torch.tensor([0, 1])
    points = Points(randn(5, 2, 1, 1, 6), concept, concept, concept)
    finder, other = begun(points), begun(points)
    finder.find(request(points, 2))
    assert not torch.equal(finder.states.text, other.states.text)
    other.load_state_dict(finder.state_dict())
    assert torch.equal(finder.find(request(points, 2)).searched.text, other.find(request(points, 2)).searched.text)


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def test_a_stopped_run_resumes_to_the_same_bits(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"batch": 2, "sampling_steps": 2, "rate": 1e-3, "mixed_precision": "no", "param": "kv"}
    options = RefineOptions.of("aegis", model.profile, **given, steps=3, save_every=2)
    assert (options.anchor, options.anchor_rule, options.finds.name) == ("l2", "conflict", "learned")
    whole = refine(model, tmp_path / "a", ["church"], options=options, device="cpu")
    with killed_at(2):
        refine(model, tmp_path / "b", ["church"], options=options, device="cpu")
    resumed = refine(model, tmp_path / "b", ["church"], options=options, device="cpu", resume=True)
    assert all(torch.equal(W, resumed.tensors[name]) for name, W in whole.tensors.items())
    assert whole.record["figures"]["passes"]["search"] == 3 * 2 * 3  # rows of a step: the student's, the teacher's two
