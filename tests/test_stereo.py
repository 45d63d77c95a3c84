"""`stereo`: away from a word and the tokens of its pictures at once; its target against passes by hand, and a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from editkit.drawing.pipelines import open_denoiser
from editkit.embeddings.learned import Learned, teach
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.batches import BATCH
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.tuning.setup import prepare
from tests.killed import killed_at

SMALL: dict[str, Any] = {
    "batch": 4, "sampling_steps": 3, "rate": 1e-3, "mixed_precision": "no", "param": "kv", "steps": 4, "save_every": 2,
}  # fmt: skip
ETA = 1.5


@pytest.fixture
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


def token(seed: int, word: str) -> Learned:
    rows = 0.05 * torch.randn(1, 256, generator=torch.Generator().manual_seed(seed))
    return Learned(f"<t{seed}>", word, ((rows,),))


@pytest.mark.parametrize("guide", ["castle", ""])
def test_the_target_is_the_combination_that_the_equation_has(guide: str, model: EditableModel, tmp_path: Path) -> None:
    """By stock passes, a prompt at a time: of a church with two tokens, and a dog that has its word alone."""
    tokens = [token(1, "church"), token(2, "church")]
    options = RefineOptions.of("stereo", model.profile, **SMALL, eta=ETA)
    request = StageRequest(model, ["church", "dog"], None, [guide], options, ["cat"], "cpu", learned=tokens)
    setup = prepare(request, tmp_path)
    trainer, student = setup.trainer, setup.denoiser.network
    made = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=made)
    trainer.batches.draw(0)
    drawn = [trainer.batches.points(i, BATCH) for i in range(6)]
    teacher = open_denoiser(model.source)
    teach(teacher.pipe, request.shown.tokens)
    names = [text for text, _ in request.asked]
    assert names[0] == "church" and names[-1] == "dog" and len(names) == 4
    seen: set[int] = set()
    for points in drawn:
        loss = trainer.passes.terms(points, None).erase
        for row in range(len(points)):
            number = int(points.concept[row])
            seen.add(number)
            form = model.profile.refine.templates[int(points.template[row])]

            def said(text: str, network: Any = None, row: int = row, points: Any = points) -> torch.Tensor:
                read = teacher.encode([text])[0][0]
                return teacher.predict(points.z[row : row + 1], points.t[row : row + 1], read, network)

            with torch.no_grad():
                kin = [form.format(name) for name in (names[:3] if number < 3 else names[3:])]
                negative = torch.stack([said(text) for text in kin]).mean(0)
                u, n = said(""), said(form.format(guide) if guide else "")
                wanted = (
                    (said(form.format(names[number]), student) - (u + ETA * (n - u) - ETA * (negative - u)))
                    .square()
                    .sum()
                )
            torch.testing.assert_close(loss[row].detach(), wanted, rtol=1e-3, atol=1e-4)
    assert len(seen) == 4
    trainer.passes.terms(drawn[0], None).erase.sum().backward()
    assert all(weight.grad is None for weight in trainer.passes.networks.both[1].parameters())


def test_a_killed_run_resumes_to_the_same_bits(model: EditableModel, tmp_path: Path) -> None:
    def run(out: str, resume: bool = False) -> Any:
        options = RefineOptions.of("stereo", model.profile, **SMALL)
        return refine(
            model,
            tmp_path / out,
            ["church"],
            options=options,
            device="cpu",
            resume=resume,
            pictures=[token(1, "church")],
        )

    whole = run("a")
    with killed_at(3):
        run("b")
    resumed = run("b", True)
    assert all(torch.equal(W, resumed.tensors[name]) for name, W in whole.tensors.items())
    assert resumed.record["concepts"] == ["church"] and resumed.record["pictures"]["church"]["token"] == "<t1>"


def test_a_step_is_planned(model: EditableModel) -> None:
    plan = plan_memory(model.source, RefineOptions.of("stereo", model.profile, **SMALL), "cpu", 2)
    assert plan.parts["activations"] > 0
