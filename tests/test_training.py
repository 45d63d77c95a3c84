"""The training code of the bundled model, on drawings made here: no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from editkit.emoji.catalogue import Subject, catalogue, subjects
from editkit.emoji.icons import ICON_SIZE, slug
from editkit.emoji.loop import train
from editkit.emoji.muon import Muon, orthogonalise
from editkit.emoji.pictures import Composer
from editkit.emoji.train_judge import IGNORED, JudgeExamples, augment, judge_labels
from editkit.seeds import seeded


@pytest.fixture(scope="module")
def composer() -> Composer:
    """As many drawings as the catalogue has, each a half-transparent square of its own colour."""
    rng = np.random.default_rng(0)
    icons = np.zeros((len(subjects()), ICON_SIZE, ICON_SIZE, 4), dtype=np.uint8)
    icons[:, 10:40, 10:40, :3] = rng.integers(0, 256, (len(icons), 1, 1, 3))
    icons[:, 10:40, 10:40, 3] = 128
    return Composer(icons)


def run(folder: Path, steps: int, until: int | None = None) -> Tensor:
    """Fit a line; with `until`, stop there as Ctrl-C would."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)

    def step(i: int) -> Tensor:
        if i == until:
            raise KeyboardInterrupt
        x = torch.randn(8, 4, generator=seeded(0, i))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    train("line", steps, step, {"model": model, "optimizer": optimizer}, folder, save_every=7)
    return model.weight.detach().clone()


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", 20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", 20, until=11)
    assert run(tmp_path / "b", 20).equal(whole)
    assert run(tmp_path / "b", 20).equal(whole)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train("bad", 3, lambda i: torch.tensor(float("nan")), {}, tmp_path)


def test_composer_blends_and_moves(composer: Composer) -> None:
    shift = torch.tensor([[0, 0], [3, -2]])
    still, moved = composer(torch.tensor([5, 5]), torch.tensor([0, 0]), shift)
    assert torch.allclose(still.roll((-2, 3), (1, 2))[:, 8:56, 8:56], moved[:, 8:56, 8:56])
    white = torch.tensor(catalogue().backgrounds["white"]) / 127.5 - 1
    assert torch.allclose(still[:, 0, 0], white)
    square = torch.from_numpy(composer.icons[5, 20, 20, :3].astype(np.float32)) / 127.5 - 1
    alpha = 128 / 255
    assert torch.allclose(still[:, 30, 30], alpha * square + (1 - alpha) * white, atol=1e-5)


def test_orthogonalise_makes_singular_values_near_one() -> None:
    matrix = torch.randn(12, 30, generator=seeded(0, 0))
    sizes = torch.linalg.svdvals(orthogonalise(matrix))
    assert sizes.min() > 0.5 and sizes.max() < 1.3
    assert orthogonalise(matrix.T).shape == (30, 12)


def test_muon_descends() -> None:
    torch.manual_seed(0)
    wanted, weight = torch.randn(6, 3, 3, 3), nn.Parameter(torch.zeros(6, 3, 3, 3))
    optimizer = Muon([weight], 0.05)
    for _ in range(300):
        loss = (weight - wanted).square().mean()
        loss.backward()
        optimizer.step()
        weight.grad = None
    assert loss < 0.1 * wanted.square().mean()


def test_slugs_follow_each_set() -> None:
    assert slug(Subject("church", "noto")) == "church"
    assert slug(Subject("ice cream", "twemoji")) == "soft-ice-cream"
    assert slug(Subject("health worker", "noto", "woman", "dark")) == "woman-health-worker-dark-skin-tone"
    assert slug(Subject("health worker", "fluent", "man", "light")) == "man-health-worker-light"


def test_judge_examples_are_labelled(composer: Composer) -> None:
    batch = JudgeExamples(composer, composer, None).batch(40, seeded(0, 0))
    none = judge_labels()["concept"].index("none")
    assert batch.pictures.shape == (40, 3, 64, 64) and float(batch.pictures.abs().max()) <= 1
    assert int((batch.labels["concept"] == none).sum()) == 10
    unknown = batch.labels["concept"] == none
    assert bool((batch.labels["style"][unknown] == IGNORED).all())
    assert bool((batch.labels["style"][~unknown] != IGNORED).all())


def test_augment_differs_by_picture_and_repeats_by_seed() -> None:
    pictures = torch.zeros(2, 3, 64, 64)
    pictures[:, :, 20:40, 20:40] = 1
    first = augment(pictures, seeded(0, 1))
    assert first.equal(augment(pictures, seeded(0, 1)))
    assert not first[0].equal(first[1])
