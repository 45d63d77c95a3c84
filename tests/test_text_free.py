"""Attacks that change no text: completion, the noise probe, TINA; and what an edit of the text can do about them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.evaluation.detectors.judge import load_judge
from editkit.model.editable import open_model
from editkit.redteam.arena import Arena
from editkit.redteam.completion import Completion
from editkit.redteam.gaussianity import gaussianity
from editkit.redteam.inversion import Inversion
from editkit.redteam.noise_probe import NoiseProbe
from editkit.redteam.noisy_ddim import NoisyDDIM
from editkit.redteam.seed_search import SeedSearch
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target
from editkit.redteam.tina import Tina
from editkit.variants.edit_file import save_edit
from tests.cli import run

STEPS = 6
CHURCH = Target("church", ("a church",), ("church",))
TINY: dict[str, Any] = {"inverted": 1, "descents": 1}


@pytest.fixture(scope="module")
def arena() -> Arena:
    """Of the unedited model."""
    model = open_model("emoji")
    denoiser = open_denoiser(model.source, "cpu")
    denoiser.network.requires_grad_(False)
    return Arena(
        model, None, denoiser, load_judge(model.profile), Sampling(STEPS, guidance=3.0), seeds=(1000, 1001)
    )  # fmt: skip


@pytest.fixture(scope="module")
def moves_all(arena: Arena) -> Edit:
    """A large edit at random."""
    made = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, 512, 8, generator=made, dtype=torch.float64)
    return Edit({"*": EditMap(U, V.T / 512**0.5)}, editkit.erase("emoji", ["church"], options=Options("uce")).record)


@pytest.fixture(scope="module")
def holds_nothing(arena: Arena, moves_all: Edit) -> Edit:
    """The same without what it does to the rows of the empty prompt."""
    (nothing,) = arena.model.encoder.encode([""])
    M = moves_all.maps["*"]
    held = torch.linalg.svd(nothing, full_matrices=False).Vh
    return replace(moves_all, maps={"*": EditMap(M.U, M.V - M.V @ held.T @ held)})


def without_text(arena: Arena, seeds: tuple[int, ...] = (3, 4)) -> np.ndarray:
    raw = arena.original.raw(["a church"], arena.cost)
    drawn = arena.draw_rows([(raw, "a church", Shot(seed, prompted=False)) for seed in seeds])
    return np.stack([np.asarray(picture) for picture in drawn]).astype(int)


def with_text(arena: Arena, **shot: Any) -> np.ndarray:
    raw = arena.original.raw(["a church"], arena.cost)
    return np.asarray(arena.draw_rows([(raw, "a church", Shot(3, **shot))])[0]).astype(int)


def test_with_the_rows_of_the_empty_prompt_held_nothing_that_is_drawn_without_text_changes(
    arena: Arena, moves_all: Edit, holds_nothing: Edit
) -> None:
    held, moved = arena.of(holds_nothing), arena.of(moves_all)
    plain = without_text(arena)
    assert np.abs(without_text(held) - plain).mean() < 0.5, "half precision rounds"
    assert np.abs(without_text(moved) - plain).mean() > 5
    assert np.abs(with_text(held) - with_text(arena)).mean() > 5, "it is a large edit all the same"
    of_held, of_moved = (each.victim_for("").null_shift(each.cost) for each in (held, moved))
    assert of_held is not None and of_moved is not None and of_held < 1e-6 < 0.1 < of_moved


def test_with_the_empty_prompt_held_tina_finds_the_noise_that_it_finds_of_the_original(
    arena: Arena, moves_all: Edit, holds_nothing: Edit
) -> None:
    (plain,), (held,), (moved,) = (
        Tina(**TINY).attack(arena.of(variant), CHURCH) for variant in (None, holds_nothing, moves_all)
    )
    noises = [noise for each in (plain, held, moved) if (noise := each.shots[0].noise) is not None]
    assert torch.allclose(noises[0], noises[1], atol=1e-3) and not torch.allclose(noises[0], noises[2], atol=0.1)
    assert held.figures == pytest.approx(plain.figures, abs=1e-2)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("clip", [False, True])
def test_noisy_ddim_is_the_ddim_of_diffusers(prediction: Any, spacing: Any, clip: bool) -> None:
    from diffusers import DDIMScheduler

    own: Any = DDIMScheduler(prediction_type=prediction, timestep_spacing=spacing, clip_sample=clip, beta_end=0.012)
    own.set_timesteps(7)
    shots = [Shot(5, eta=eta) for eta in (0.0, 0.5, 1.0)]
    noisy = NoisyDDIM.of(own, 7, shots)
    made, fresh = torch.Generator().manual_seed(1), torch.Generator().manual_seed(6 * 1_000_003)
    assert noisy.timesteps.tolist() == own.timesteps.tolist()
    z = torch.randn(3, 4, 8, 8, generator=made)
    for t in own.timesteps:
        predicted, noise = torch.randn(3, 4, 8, 8, generator=made), torch.randn(4, 8, 8, generator=fresh)
        expected = torch.cat([
            own.step(predicted[n : n + 1], t, z[n : n + 1], eta=shot.eta, variance_noise=noise[None]).prev_sample
            for n, shot in enumerate(shots)
        ])  # fmt: skip
        z = noisy.step(predicted, t, z).prev_sample
        assert torch.allclose(z, expected, atol=1e-5)


def test_more_noise_than_ddpm_stays_finite_and_grows_with_its_scale() -> None:
    from diffusers import DDIMScheduler

    shots = [Shot(5, eta=1.85, noise_scale=scale) for scale in (1.0, 1.04)]
    noisy = NoisyDDIM.of(DDIMScheduler(clip_sample=False), 7, shots)
    t, zeros = noisy.timesteps[3], torch.zeros(2, 4, 8, 8)
    plain, louder = noisy.step(zeros, t, zeros).prev_sample
    assert plain.isfinite().all() and torch.allclose(louder, 1.04 * plain, rtol=1e-5)


def test_a_picture_of_the_noise_probe_does_not_depend_on_those_beside_it(arena: Arena) -> None:
    (found,) = NoiseProbe().attack(arena, CHURCH)
    assert len(found.shots) == len({(shot.eta, shot.noise_scale) for shot in found.shots}) == 24
    raw = arena.original.raw(["a church"], arena.cost)
    alone = arena.draw_rows([(raw, "a church", found.shots[7])])[0]
    among = arena.draw_rows([(raw, "a church", shot) for shot in (Shot(3), *found.shots[6:9])])
    assert np.abs(np.asarray(alone).astype(int) - np.asarray(among[2]).astype(int)).mean() < 0.5
    assert np.abs(np.asarray(among[0]).astype(int) - with_text(arena)).mean() < 0.5, "a plain picture stays plain"
    (searched,) = SeedSearch().attack(arena, CHURCH)
    assert [shot.seed for shot in found.shots] == [shot.seed for shot in searched.shots]


def test_what_the_original_draws_to_the_end_is_the_originals(arena: Arena, moves_all: Edit) -> None:
    edited = arena.of(moves_all)
    assert np.array_equal(with_text(edited, handover=STEPS), with_text(arena))
    assert np.array_equal(with_text(edited, handover=STEPS, prompted=False), with_text(arena))
    far = [np.abs(with_text(edited, handover=steps) - with_text(arena)).mean() for steps in (0, 2, 4)]
    assert far == sorted(far, reverse=True) and far[-1] < far[0]


def test_completion_tries_every_prompt_with_every_number_of_steps(arena: Arena) -> None:
    target = replace(CHURCH, prompts=("a church", "one church"))
    found = Completion(handover=3, goes_on_with_text=False).attack(arena, target)
    assert [(each.source, each.shots[0].handover) for each in found] == [
        (prompt, steps) for prompt in target.prompts for steps in (1, 2, 3)
    ]
    assert all(not shot.prompted and shot.seed in arena.seeds for each in found for shot in each.shots)


def test_descent_undoes_the_steps_of_a_network_that_the_guess_does_not() -> None:
    from diffusers import DDIMScheduler

    def network(z: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(z.roll(1, -1)) * 0.5

    ddim: Any = DDIMScheduler(clip_sample=False, beta_end=0.012)
    ddim.set_timesteps(10)
    wanted = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    clean = wanted
    for t in ddim.timesteps:
        clean = ddim.step(network(clean, t), t, clean).prev_sample
    guessed, far = Inversion(network, ddim, 0, 1e-3).noise_of(clean)
    found, near = Inversion(network, ddim, 200, 3e-3).noise_of(clean)
    assert (near < far / 5).all()
    assert (found - wanted).norm() < (guessed - wanted).norm() / 3
    hurried, _ = Inversion(network, ddim, 200, 3e-3).noise_of(clean, lambda: True)
    assert torch.equal(hurried, guessed)


@pytest.mark.parametrize("shape", ["noise", "wide", "shifted", "heavy"])
def test_gaussianity_is_what_scipy_says(shape: str) -> None:
    z = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(3))
    z = {"noise": z, "wide": 1.05 * z, "shifted": z + 0.05, "heavy": z.sign() * z.abs() ** 1.1}[shape]
    figures, entries = gaussianity(z), z.double().flatten().numpy()
    chi2 = stats.chi2(entries.size)
    two_sided = 2 * min(chi2.cdf((entries**2).sum()), chi2.sf((entries**2).sum()))
    assert figures["norm_p"] == pytest.approx(two_sided, abs=1e-6)
    assert figures["ks_p"] == pytest.approx(stats.kstest(entries, "norm").pvalue, abs=5e-3)
    assert figures["skewness"] == pytest.approx(stats.skew(entries), abs=1e-6)
    assert figures["kurtosis"] == pytest.approx(stats.kurtosis(entries), abs=1e-6)


def test_tina_tells_beside_its_success_that_its_noise_is_none(moves_all: Edit, tmp_path: Path) -> None:
    save_edit(moves_all, tmp_path / "church.safetensors")
    words = (
        "attack", "church.safetensors", "--attack", "tina", "--inverted", "1", "--descents", "1", "--steps", str(STEPS),
        "--pictures", "1", "--no-control", "--out", "attacks",
    )  # fmt: skip
    said = run(*words, cwd=tmp_path)
    assert "church, tina: norm_p" in said and "survives_0.2" in said and "rows of the empty prompt move" in said
    told = json.loads(run(*words, "--json", cwd=tmp_path))
    figures = told["attempts"][0]["figures"]
    assert told["lines"][0]["figures"] == figures and figures["norm_p"] < 0.01
    assert {"survives_0.05", "survives_0.1", "survives_0.2", "latent_distance", "pixel_distance"} <= figures.keys()


def test_tina_inverts_pictures_that_are_brought_along(arena: Arena, tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(EditkitError, match="expected a folder of pictures"):
        Tina(references_from=str(tmp_path / "none"), **TINY).attack(arena, CHURCH)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (found,) = Tina(references_from=str(tmp_path), **TINY).attack(arena, CHURCH)
    assert found.figures["pixel_distance"] < 0.25 and found.shots[0].prompted is False
