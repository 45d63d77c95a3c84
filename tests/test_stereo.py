"""STEREO: the target of its second stage against equations written out in float64; its rounds; and where it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.inverting.invert import invert
from editkit.inverting.options import InvertOptions
from editkit.inverting.round_options import RoundOptions
from editkit.inverting.stereo import stereo
from editkit.inverting.stereo_plan import learning_rows, planned_passes, training_rows
from editkit.inverting.unfinished import Unfinished
from editkit.model.apply import apply_edit
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.denoisers import PassCounter
from editkit.tuning.latents import Points
from editkit.tuning.memory import plan_memory
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.options import RefineOptions
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import Prompts
from editkit.tuning.refine import refine
from editkit.variants.learned_file import load_learned
from editkit.variants.tuned_file import load_tuned
from tests.cases import randn
from tests.cli import run
from tests.killed import killed_at
from tests.pictures_of_emoji import noise
from tests.test_refine_losses import denoisers, tiny_unet

ETA, ROWS = 1.7, 5
GROUPS = ((0, 2, 3), (1,))
"""Of four phrases those that are said for the first concept, and for the second."""
CONCEPT = torch.tensor([0, 1, 2, 3, 2])
TEMPLATE = torch.tensor([0, 1, 1, 0, 0])


def with_places() -> Prompts:
    """Four phrases and four anchors in two templates, behind the empty prompt."""
    alike = torch.zeros(4, 4, dtype=torch.bool)
    for group in GROUPS:
        for one in group:
            alike[one, list(group)] = True
    text = randn(2, 1 + 2 * 4 * 2, 5, 6)
    numbers = 1 + torch.arange(16).view(2, 4, 2)
    return Prompts(Condition(text), numbers[0], numbers[1], torch.zeros(4, 0, 2), (), Condition(text[:1]), alike=alike)


def test_the_target_and_its_gradients_are_those_of_the_equation_row_by_row() -> None:
    mine, theirs = tiny_unet(), tiny_unet()
    networks = denoisers(mine)
    networks.keep_teacher()
    original = tiny_unet()
    made = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            one += 0.05 * torch.randn(one.shape, generator=made, dtype=one.dtype)
            other.copy_(one)
    prompts = with_places()
    z, t = randn(1, ROWS, 2, 4, 4), torch.tensor([10, 500, 999, 3, 700])
    passes = Passes(OBJECTIVES["stereo"], networks, prompts, 1.0, ETA, evenly)
    points = passes.with_targets(Points(z, t, CONCEPT, TEMPLATE))
    terms = passes.terms(points, None)
    wanted: list[Tensor] = []
    for row in range(ROWS):
        concept, template = int(CONCEPT[row]), int(TEMPLATE[row])

        def said(network: torch.nn.Module, number: int, at: int = row) -> Tensor:
            return network(z[at : at + 1], t[at : at + 1], prompts.known.text[number : number + 1]).sample[0]

        nothing = said(original, 0)
        anchor = said(original, 1 + 8 + 2 * concept + template) - nothing
        group = next(group for group in GROUPS if concept in group)
        away = sum((said(original, 1 + 2 * other + template) - nothing for other in group), torch.zeros(1)) / len(group)
        wanted.append((said(theirs, 1 + 2 * concept + template) - (nothing + ETA * anchor - ETA * away)).square().sum())
    assert torch.allclose(terms.erase, torch.stack(wanted), rtol=1e-9) and not terms.preserve.any()
    terms.erase.sum().backward()
    theirs_gradients = torch.autograd.grad(torch.stack(wanted).sum(), list(theirs.parameters()))
    for (name, weight), other in zip(mine.named_parameters(), theirs_gradients, strict=True):
        assert weight.grad is not None and torch.allclose(weight.grad, other, rtol=1e-6, atol=1e-9), name
    assert not any(weight.requires_grad or weight.grad is not None for weight in networks.both[1].parameters())
    assert not any(value.requires_grad for value in points.state().values())


@pytest.mark.parametrize("eta", [0.0, 1.0, -2.5])
def test_the_weights_of_the_target_sum_to_one(eta: float) -> None:
    """So that it moves along where all outputs are moved by the same, as between noise and a velocity."""
    student = {"e": randn(1, ROWS, 2, 4, 4)}
    teacher = {key: randn(n, ROWS, 2, 4, 4) for n, key in enumerate("ons", 2)}
    shift = randn(9, ROWS, 2, 4, 4)
    loss = OBJECTIVES["stereo"].loss
    was = loss(student, teacher, eta).erase  # pyright: ignore[reportArgumentType]
    moved = loss(
        {key: value + shift for key, value in student.items()},  # pyright: ignore[reportArgumentType]
        {key: value + shift for key, value in teacher.items()},  # pyright: ignore[reportArgumentType]
        eta,
    ).erase
    assert torch.allclose(was, moved, rtol=1e-12) and float(was.min()) > 0


WORDS = ("boat", "church", "dog", "house")
SMALL: dict[str, Any] = {
    "batch": 2, "sampling_steps": 2, "steps": 4, "rate": 1e-3, "mixed_precision": "no", "save_every": 1,
}  # fmt: skip
BRIEF = RoundOptions(rounds=2, erase_steps=2, learn_steps=20, learn_pictures=2)


@pytest.fixture(scope="module")
def model(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> EditableModel:
    """It knows few words."""
    profile = tmp_path_factory.mktemp("profile") / "few.toml"
    profile.write_text(f"words = {list(WORDS)!r}\n[sampling]\nsteps = 2\n")
    return open_model(tiny_sd, profile=profile)


def done(model: EditableModel, out: Path, resume: bool = False, rounds: RoundOptions = BRIEF, **more: Any) -> Any:
    options = RefineOptions.of("stereo", model.profile, **SMALL)
    return stereo(model, out, ["church"], None, ["house"], options, device="cpu", resume=resume, rounds=rounds, **more)


@pytest.fixture(scope="module")
def whole(model: EditableModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, editkit.Tuned]:
    """An unbroken run and its folder."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, done(model, out)


def test_a_run_that_is_killed_anywhere_resumes_to_the_same_bits(
    model: EditableModel, whole: tuple[Path, editkit.Tuned], tmp_path: Path
) -> None:
    """Killed while a round erases, while it learns, and in the last stage."""
    out, keep = tmp_path / "parts", Unfinished.keep

    def killed(self: Unfinished, begun: Any) -> None:
        keep(self, begun)
        if begun["now"]["step"] == 10:
            raise ZeroDivisionError

    with killed_at(1):
        done(model, out)
    other = replace(BRIEF, learn_steps=30)
    with pytest.raises(EditkitError, match="of a run with learn_steps 20, not 30; resume with the same options"):
        done(model, out, resume=True, rounds=other)
    with pytest.raises(EditkitError, match="--resume to go on, or --force to start again"):
        done(model, out)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Unfinished, "keep", killed)
        done(model, out, resume=True)
    with killed_at(3):
        done(model, out, resume=True)
    again, first = done(model, out, resume=True), whole[1]
    assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items())
    assert again.record["pictures"]["church"]["sha256"] == first.record["pictures"]["church"]["sha256"]
    with killed_at(0):
        done(model, out, force=True, rounds=other)
    assert not (out / "checkpoint.pt").exists() and not (out / "rounds" / "2").exists()


def test_every_round_erases_what_was_found_and_learns_against_what_is_left(
    model: EditableModel, whole: tuple[Path, editkit.Tuned]
) -> None:
    out, tuned = whole
    known: list[Learned] = []
    start: editkit.Tuned | None = None
    for number in (1, 2):
        folder = out / "rounds" / str(number)
        options = RefineOptions.of("esd", model.profile, **{**SMALL, "steps": 2, "seed": number})
        by_hand = refine(
            model, folder / "by-hand", ["church"], start, options=options, device="cpu", pictures=known
        )  # fmt: skip
        start = load_tuned(folder / "tuned.safetensors")
        assert all(torch.equal(value, start.tensors[name]) for name, value in by_hand.tensors.items())
        found = load_learned(folder / "church-1.ti.safetensors")
        told = tuned.record["rounds"]["each"][number - 1]
        assert told["found"]["church"]["sha256"] == found.sha256 and told["erased"]["steps"] == 2
        before = known[0].restarts if known else ()
        known = [Learned("<church>", "church", (*before, *found.restarts))]
    assert known[0].sha256 == tuned.record["pictures"]["church"]["sha256"]
    options = RefineOptions.of("stereo", model.profile, **SMALL)
    last = refine(model, out / "by-hand", ["church"], None, ["house"], options, device="cpu", pictures=known)
    assert all(torch.equal(value, tuned.tensors[name]) for name, value in last.tensors.items())


def test_a_token_is_learned_by_the_trained_model(
    model: EditableModel, whole: tuple[Path, editkit.Tuned], tmp_path: Path
) -> None:
    """As by a folder with its weights, in the stock pipeline's hands."""
    brief = InvertOptions(steps=10, restarts=1, rate=0.05, points=2, held=4)
    pipe = editkit.load(model.source)
    apply_edit(pipe, whole[1])
    pipe.save_pretrained(tmp_path / "folder")
    pictures = noise(2)

    def learned(model: Any, tuned: editkit.Tuned | None = None) -> Tensor:
        return invert(model, pictures, "church", options=brief, style=False, device="cpu", tuned=tuned).best[0]

    mine = learned(model, whole[1])
    assert torch.equal(mine, learned(tmp_path / "folder"))


def test_the_planned_passes_are_those_that_are_made(
    model: EditableModel, whole: tuple[Path, editkit.Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = whole[1].record
    options = RefineOptions.of("stereo", model.profile, **SMALL)
    planned = planned_passes(options, BRIEF, Sampling.for_model(model.source), [1])
    assert planned.last == sum(record["figures"]["passes"].values())
    erased = [each["erased"]["passes"] for each in record["rounds"]["each"]]
    assert planned.erasing == sum(sum(each.values()) for each in erased)
    assert planned.pictures == 2 * 2 * 2  # pictures, steps, guided
    opened, counter = editkit.inverting.invert.open_denoiser, PassCounter()  # pyright: ignore

    def watched(*given: Any) -> Any:
        denoiser = opened(*given)
        counter.watch(denoiser.network)
        return denoiser

    monkeypatch.setattr("editkit.inverting.invert.open_denoiser", watched)
    invert(model, noise(2), "church", options=InvertOptions(steps=20, restarts=1, patience=99), device="cpu")
    assert learning_rows(BRIEF) == counter.total
    assert planned.learning == 2 * counter.total and planned.total > planned.learning + planned.erasing
    few = RefineOptions.of("stereo", model.profile, **{**SMALL, "bank": False})
    assert training_rows(few, [2]) == 4 * 2 * (1 + 2 + 2 + 2)  # student; one guided step; two; a mean of two


def test_the_plan_has_room_for_what_learns_a_token(model: EditableModel) -> None:
    options = RefineOptions.of("stereo", model.profile, **{**SMALL, "batch": 1})
    without, more = (plan_memory(model.source, options, "cpu", learned=n).parts["activations"] for n in (0, 64))
    assert 0 < 8 * without < more


def test_what_rounds_cannot_do_is_refused(model: EditableModel, tmp_path: Path) -> None:
    rows = (torch.randn(1, model.encoder.width),)
    with pytest.raises(EditkitError, match="--picture: 'boat' was learned with masks, and the original model draws no"):
        stereo(model, tmp_path / "a", pictures=[Learned("<boat>", "boat", (rows,), (rows,))], device="cpu")
    with pytest.raises(EditkitError, match="--objective esd: has no rounds; use --objective stereo"):
        stereo(model, tmp_path / "a", ["church"], options=RefineOptions("esd"))
    with pytest.raises(EditkitError, match="--attribute: --objective stereo balances nothing"):
        stereo(model, tmp_path / "a", ["church"], attributes=["man", "woman"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("RANK", "0")
        with pytest.raises(EditkitError, match="--rounds: tokens are looked for in one process"):
            stereo(model, tmp_path / "a", ["church"], device="cpu")
    with pytest.raises(EditkitError, match="no checkpoint to resume from"):
        done(model, tmp_path / "a", resume=True)


def test_the_command_line_makes_one_on_the_bundled_model(tmp_path: Path) -> None:
    brief = ["--rounds", "1", "--erase-steps", "1", "--learn-steps", "1", "--learn-pictures", "1"]
    words = ["refine", "--objective", "stereo", "--concept", "church", "--model", "emoji", "--sampling-steps", "2",
             "--steps", "1", "--device", "cpu", *brief]  # fmt: skip
    told = run(*words, "--guide", "castle", "--mixed-precision", "no", cwd=tmp_path, errors=True)
    assert "planned passes of the denoiser: " in told and "round 1: a token for 'church', loss " in told
    record = editkit.info(tmp_path / "church-stereo")
    assert record["method"] == "stereo" and record["rounds"]["options"]["learn_steps"] == 1
    assert record["rounds"]["each"][0]["found"]["church"]["sha256"] == record["pictures"]["church"]["sha256"]
    failed = run("refine", "--concept", "church", "--objective", "esd", "--rounds", "2", cwd=tmp_path, code=1)
    assert "--rounds: --objective esd has no rounds; use --objective stereo" in failed
