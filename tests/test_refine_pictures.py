"""Objectives whose concept is known from pictures: the learned token stands where the concept's word does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import editkit
from editkit.concepts.templates import fill
from editkit.embeddings.learned import Learned, Vectors
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning import loop
from editkit.tuning.batches import BATCH
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.request import StageRequest
from editkit.tuning.setup import prepare
from editkit.variants.learned_file import save_learned
from tests.cli import run
from tests.test_refine_losses import ETA, LAMB, WITHOUT_KEY, reference

WORDS = ["dog", "cat", "tree", "house", "car", "river", "mountain", "table"]
SMALL: dict[str, Any] = {
    "batch": 3, "k": 4, "sampling_steps": 4, "steps": 4, "rate": 1e-3, "mixed_precision": "no", "lamb": LAMB,
    "eta": ETA,
}  # fmt: skip


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "few.toml"
    path.write_text(f"words = {WORDS!r}\n")
    return path


@pytest.fixture(scope="module")
def model(tiny_sd: Path, profile: Path) -> EditableModel:
    """It knows few words."""
    return open_model(tiny_sd, profile=profile)


def vectors(model: EditableModel, seed: int) -> Vectors:
    made = torch.Generator().manual_seed(seed)
    return (0.1 * torch.randn(2, model.encoder.width, generator=made),)


def learned(model: EditableModel, masked: bool = False) -> Learned:
    """Of two restarts, with two vectors each."""
    kept = tuple(vectors(model, seed) for seed in (2, 3)) if masked else ()
    return Learned("<boat>", "boat", tuple(vectors(model, seed) for seed in (0, 1)), kept)


class ByHand:
    """One pass a prompt, of the stock network on what the stock pipeline reads after it loaded our files."""

    def __init__(self, folder: Path, known: Learned, tmp_path: Path, guide: str) -> None:
        self.pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
        self.student: Any = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
        self.becomes: list[str] = []
        for n, own in enumerate(known.restarts):
            for name, each in ((f"<e{n}>", own), (f"<n{n}>", known.kept[n] if known.kept else None)):
                if each is not None:
                    save_learned(Learned(name, "boat", (each,)), tmp_path / f"{name}.safetensors")
                    self.pipe.load_textual_inversion(str(tmp_path / f"{name}.safetensors"))
            self.becomes.append(f"<n{n}>" if known.kept else guide)

    def reads(self, template: str, text: str) -> Tensor:
        return self.pipe.encode_prompt(fill(template, text) if text else "", "cpu", 1, False)[0]

    def at(self, points: Points, templates: tuple[str, ...], searched: list[str]) -> ByHand:
        said = [(int(c), templates[int(t)]) for c, t in zip(points.concept, points.template, strict=True)]
        texts = {
            "e": [self.reads(template, f"<e{c}>") for c, template in said],
            "n": [self.reads(template, self.becomes[c]) for c, template in said],
            "a": [self.reads(template, word) for (_, template), word in zip(said, searched, strict=True)],
            "o": [self.reads(template, "") for _, template in said],
        }
        texts |= {f"e{n}": [self.reads(t, f"<e{n}>") for _, t in said] for n in range(len(self.becomes))}
        self.points, self.texts = points, {key: torch.cat(rows) for key, rows in texts.items()}
        return self

    def of_student(self, key: str) -> Tensor:
        return self.student(self.points.z, self.points.t, self.texts[key]).sample

    @torch.no_grad()
    def of_teacher(self, key: str) -> Tensor:
        if key == "s":
            return torch.stack([self.of_teacher(f"e{n}") for n in range(len(self.becomes))]).mean(0)
        return self.pipe.unet(self.points.z, self.points.t, self.texts[key]).sample


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [name for name, objective in WITHOUT_KEY.items() if not objective.balances])
def test_the_token_stands_where_the_word_does(
    name: str, masked: bool, model: EditableModel, tiny_sd: Path, tmp_path: Path
) -> None:
    """Loss and gradients of every objective. With masks the token of what they leave stands where the guide does."""
    known, guide = learned(model, masked), "church"
    among_words = {**SMALL, "search": "gumbel", "param": "xattn"}
    options = RefineOptions.of(name, profile=model.profile, **among_words)
    guides = () if masked else (guide,)
    request = StageRequest(model, (), None, guides, options, WORDS, "cpu", learned=[known])
    setup = prepare(request, tmp_path)
    hand = ByHand(tiny_sd, known, tmp_path, guide)
    trainer, student = setup.trainer, setup.denoiser.network
    made = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=made)
    hand.student.load_state_dict(student.state_dict())
    trainer.batches.draw(0)
    points = trainer.batches.points(0, BATCH)
    prompts, which = trainer.passes.prompts, torch.zeros(len(points), dtype=torch.long)
    assert prompts.count == len(known.restarts)
    searched = prompts.a(points.concept, which, points.template) if options.loss.search_reads else None
    words = [prompts.words[int(c)][0] if searched is not None else "" for c in points.concept]
    loss = trainer.passes.terms(points, searched).loss(LAMB)
    wanted, _ = reference(name, hand.at(points, model.profile.refine.templates, words))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    loss.sum().backward()
    wanted.sum().backward()
    theirs = dict(hand.student.named_parameters())
    trained = [(key, weight) for key, weight in student.named_parameters() if weight.grad is not None]
    assert trained
    for key, weight in trained:
        torch.testing.assert_close(weight.grad, theirs[key].grad, rtol=1e-3, atol=1e-4)


def test_a_run_is_recorded_and_resumed_with_the_same_token_alone(model: EditableModel, tmp_path: Path) -> None:
    def done(out: str, known: Learned, resume: bool = False, **more: Any) -> editkit.Tuned:
        options = RefineOptions.of("ap", profile=model.profile, **{**SMALL, "save_every": 2, **more})
        return refine(
            model, tmp_path / out, options=options, guides=["church"], vocabulary=WORDS, device="cpu", resume=resume,
            pictures=[known],
        )  # fmt: skip

    known = learned(model)
    whole = done("whole", known)
    assert whole.record["concepts"] == ["boat"] and whole.record["guides"] == ["church"]
    assert whole.record["pictures"]["boat"]["sha256"] == known.sha256
    searched = {word for line in (tmp_path / "whole" / loop.LOG).open() for word in json.loads(line)["found"]}
    assert searched and searched <= {*WORDS}
    with pytest.MonkeyPatch.context() as patch:
        real = loop._save

        def killed(trainer: Any, run: Any, done: int) -> None:
            real(trainer, run, done)
            raise KeyboardInterrupt

        patch.setattr(loop, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            done("parts", known)
    with pytest.raises(EditkitError, match="of a run with pictures"):
        done("parts", Learned("<boat>", "boat", (vectors(model, 5), vectors(model, 1))), resume=True)
    again = done("parts", known, resume=True)
    assert all(again.tensors[name].equal(value) for name, value in whole.tensors.items())


def test_the_word_is_trained_away_with_its_token_where_it_is_named(model: EditableModel, tmp_path: Path) -> None:
    options = RefineOptions.of("esd", profile=model.profile, **SMALL)
    said = ("dog", "boat")
    request = StageRequest(model, said, None, ["", "church"], options, WORDS, "cpu", learned=[learned(model)])
    assert request.concepts == ["dog", "boat"]
    assert [becomes for _, becomes in request.asked] == ["", "church", "church", "church"]
    assert [text for text, _ in request.asked][:2] == ["dog", "boat"]
    assert request.stands_for == ["dog", "boat", "boat", "boat"]
    assert [request.shown.named(text) for text, _ in request.asked] == ["dog", "boat", "<boat>", "<boat>"]
    masked = StageRequest(model, ["boat"], None, (), options, WORDS, "cpu", learned=[learned(model, True)])
    assert masked.asked[0] == ("boat", masked.asked[1][1])
    with pytest.raises(EditkitError, match="--guide: 'boat' was learned with masks"):
        StageRequest(model, (), None, ["church"], options, WORDS, "cpu", learned=[learned(model, True)])


def test_the_command_line_refines_by_a_picture(
    model: EditableModel, profile: Path, tiny_sd: Path, tmp_path: Path
) -> None:
    save_learned(learned(model), tmp_path / "boat.ti.safetensors")
    run("refine", "--picture", "boat.ti.safetensors", "--guide", "church", "--objective", "esd", "--steps", "1",
        "--batch", "2", "--sampling-steps", "2", "--preview-every", "1", "--model", tiny_sd,
        "--profile", profile, "--device", "cpu", "--mixed-precision", "no", cwd=tmp_path)  # fmt: skip
    assert (tmp_path / "boat-esd" / "preview-000001.png").is_file()
    told = editkit.info(tmp_path / "boat-esd")
    assert told["concepts"] == ["boat"] and told["pictures"]["boat"]["token"] == "<boat>"
