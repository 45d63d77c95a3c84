"""What holds trained weights near the start of a run, against references by hand; and which points are taken most."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.anchor import Anchor, fisher
from editkit.tuning.descent import Descent
from editkit.tuning.latents import Points, Sampler, drawn_by, focal
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from tests.cases import randn
from tests.killed import killed_at

SMALL: dict[str, Any] = {"batch": 2, "sampling_steps": 2, "rate": 1e-3, "mixed_precision": "no", "param": "kv"}
WORDS = ["dog", "pizza", "castle"]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def weights_of(*shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"w{n}": randn(n, *shape).requires_grad_() for n, shape in enumerate(shapes)}


def moved(start: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (W.detach() + randn(9, *W.shape)).requires_grad_() for name, W in start.items()}


@pytest.mark.parametrize("weighted", [False, True])
def test_a_pull_is_the_gradient_of_the_penalty(weighted: bool) -> None:
    start = weights_of((3, 4), (5,))
    importance = {name: randn(3, *W.shape).square() for name, W in start.items()} if weighted else {}
    mine, theirs = moved(start), moved(start)
    anchor = Anchor({name: W.detach() for name, W in start.items()}, 0.7, importance=importance)
    for some in (mine, theirs):
        sum((W**3).sum() for W in some.values()).backward()  # pyright: ignore
    anchor.pull(mine, 0.0)
    penalty = sum(
        0.7 / 2 * (importance.get(name, torch.tensor(1.0)) * (W - start[name].detach()) ** 2).sum()
        for name, W in theirs.items()
    )
    penalty.backward()  # pyright: ignore
    for name, W in mine.items():
        assert torch.allclose(W.grad, theirs[name].grad, rtol=1e-12), name  # pyright: ignore


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_on_conflict_a_pull_takes_away_what_leads_from_the_start_and_else_nothing(share: float) -> None:
    """All weights are one vector; with a share of 1 what is left is at right angles to the way back."""
    start = weights_of((3, 4), (5,))
    now = moved(start)
    away = torch.cat([(now[name] - start[name]).detach().flatten() for name in start])
    anchor = Anchor({name: W.detach() for name, W in start.items()}, 1.0, on_conflict=True)
    for sign in (-1, 1):
        g = sign * away + 0.3 * randn(4, len(away))
        for name, part in zip(now, g.split([12, 5]), strict=True):
            now[name].grad = part.reshape(now[name].shape).clone()
        anchor.pull(now, share)
        found = torch.cat([W.grad.flatten() for W in now.values() if W.grad is not None])
        along = float(g @ away)
        assert (along < 0) == (sign < 0)
        expected = g - share * along / float(away @ away) * away if sign < 0 else g
        assert torch.allclose(found, expected, rtol=1e-10)
        if share == 1 and sign < 0:
            assert abs(float(found @ away)) < 1e-9


def test_importance_is_the_mean_square_of_the_gradients_of_single_points() -> None:
    weights = weights_of((3, 4), (5,))
    weights["idle"] = randn(7, 2).requires_grad_()
    z = randn(11, 6, 1, 1, 4)
    points = Points(z, torch.arange(6), torch.zeros(6), torch.zeros(6))

    def loss(point: Points) -> Tensor:
        return ((weights["w0"] @ point.z.flatten()).square().sum() + (weights["w1"] * point.t).sum()) / 2

    found = fisher(weights, points, loss)
    squares = {name: torch.zeros_like(W) for name, W in weights.items()}
    for n in range(6):
        x = z[n].flatten()
        squares["w0"] += torch.outer(weights["w0"].detach() @ x, x).square()
        squares["w1"] += (torch.full((5,), float(n)) / 2).square()
    mean = torch.cat([value.flatten() for value in squares.values()]).mean()
    for name, value in squares.items():
        assert torch.allclose(found[name].double(), (value / mean).detach(), rtol=1e-5), name
    assert all(weight.grad is None for weight in weights.values())


def test_points_are_taken_as_often_as_the_density_says() -> None:
    t = torch.arange(1000)
    assert float(focal(t).max()) == pytest.approx(1, abs=0.02) and 200 <= int(focal(t).argmax()) <= 400
    assert torch.allclose(focal(torch.tensor([0.2, 0.4]), 1), torch.tensor([0.5, 0.5]).double(), atol=1e-3)
    chances = torch.arange(0, 1, 1e-5, dtype=torch.float64)
    counts = torch.bincount(drawn_by(focal(t), chances), minlength=1000)
    assert torch.allclose(counts.double() / len(chances), focal(t) / focal(t).sum(), atol=2e-5)


def test_a_focal_run_reads_the_points_at_which_pictures_take_shape() -> None:
    t = torch.tensor([999, 801, 601, 401, 301, 201, 1])
    picked = Sampler(None, None, None, "focal").chosen(t, torch.rand(500, generator=torch.Generator()))  # pyright: ignore
    assert {*t[picked].tolist()} == {201, 301, 401}
    even = Sampler(None, None, None).chosen(t, torch.rand(500, generator=torch.Generator()))  # pyright: ignore
    assert {*t[even].tolist()} == {*t.tolist()}


def run(model: EditableModel, out: Path, resume: bool = False, **options: Any) -> dict[str, Tensor]:
    chosen = RefineOptions.of("esd", model.profile, **{**SMALL, **options})
    tuned = refine(model, out, ["church"], options=chosen, vocabulary=WORDS, resume=resume, device="cpu")
    return {name: W - model.projections[name] for name, W in tuned.tensors.items()}


def size(change: dict[str, Tensor]) -> float:
    return sum(float(step.square().sum()) for step in change.values()) ** 0.5


def test_an_anchor_keeps_weights_near_the_start(model: EditableModel, tmp_path: Path) -> None:
    free = run(model, tmp_path / "free", steps=3)
    held = run(model, tmp_path / "held", steps=3, anchor="l2", anchor_weight=1e9)
    assert 0 < size(held) < 0.9 * size(free)


def test_a_stopped_run_with_an_anchor_resumes_to_the_same_bits(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editkit.tuning.anchored.POINTS", 3)
    monkeypatch.setattr("editkit.tuning.asked.KEPT_WORDS", 2)
    options = {"anchor": "fisher", "anchor_weight": 1e6, "anchor_rule": "conflict", "timesteps": "focal", "steps": 4}
    whole = run(model, tmp_path / "a", **options)
    with killed_at(2):
        run(model, tmp_path / "b", **options, save_every=2)
    resumed = run(model, tmp_path / "b", resume=True, **options)
    assert {*whole} == {*resumed} and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_gradients_are_unscaled_before_the_pull() -> None:
    """float16 scales them; the pull is in their own size."""
    W = torch.ones(2, dtype=torch.float64).requires_grad_()
    W.grad = torch.full((2,), 8.0, dtype=torch.float64)
    optimizer = torch.optim.SGD([W], 1.0)

    def unscale(of: Any) -> None:
        assert of is optimizer and W.grad is not None
        W.grad /= 4

    processes: Any = SimpleNamespace(accelerator=SimpleNamespace(unscale_gradients=unscale))
    Descent({"w": W}, optimizer, processes, None, Anchor({"w": torch.zeros(2).double()}, 3.0)).update()
    assert W.tolist() == [1 - (2 + 3), 1 - (2 + 3)]


def test_a_plan_counts_what_an_anchor_keeps(model: EditableModel) -> None:
    plans = {
        kind: plan_memory(model.source, RefineOptions.of("esd", **SMALL, anchor=kind), "cpu").parts
        for kind in ("none", "l2", "fisher")
    }
    assert [plans[kind]["anchor"] for kind in plans] == [n * plans["none"]["gradients"] for n in (0, 1, 2)]


def test_an_anchor_of_a_lora_is_refused() -> None:
    with pytest.raises(EditkitError, match=r"--anchor l2: expected whole weights to hold, but --param is lora:2; give"):
        RefineOptions(anchor="l2", param="lora:2")
