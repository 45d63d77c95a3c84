"""Noise, velocity and picture are one prediction in other words, and where a flow is trained on its way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.flux import Flux
from editkit.drawing.pipelines.sd3 import StableDiffusion3
from editkit.drawing.sampling import Sampling
from editkit.tuning.latents import Sampler
from editkit.tuning.levels import Levels, with_noise
from editkit.tuning.objectives import esd
from editkit.tuning.passes import as_pictures
from tests.test_refine_losses import denoisers, tiny_unet

T = torch.tensor([1, 300, 700, 990])
KINDS = ("epsilon", "v_prediction", "sample", "flow")


def picture(kind: str, said: Tensor, z: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x₀ of `z = a x₀ + s ε`, solved for by hand; a flow reads the same latents as parts of one."""
    if kind == "flow":
        return z / (a + s) - s / (a + s) * said
    if kind == "v_prediction":
        return (a * z - s * said) / (a * a + s * s)
    return said if kind == "sample" else (z - s * said) / a


def said(kind: str, x: Tensor, z: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """What a model says that has this picture in mind."""
    noise = (z - a * x) / s
    if kind == "flow":
        return noise - x
    return {"epsilon": noise, "v_prediction": a * noise - s * x, "sample": x}[kind]


def setting() -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """z, a, s, and three pictures."""
    made = torch.Generator().manual_seed(0)
    z, *pictures = (torch.randn(len(T), 2, 4, 4, generator=made, dtype=torch.float64) for _ in range(4))
    known: Any = DDIMScheduler()
    kept = known.alphas_cumprod.double()[T][:, None, None, None]
    return z, kept.sqrt(), (1 - kept).sqrt(), tuple(pictures)


def test_a_target_is_the_same_in_every_parametrisation() -> None:
    """esd's: noise → velocity of diffusion → velocity of a flow → noise."""
    z, a, s, (e, n, _) = setting()
    targets = {}
    for kind in KINDS:
        of_e, of_n = said(kind, e, z, a, s), said(kind, n, z, a, s)
        targets[kind] = of_n - 1.5 * (of_e - of_n)
    first = targets["epsilon"]
    second = said("v_prediction", picture("epsilon", first, z, a, s), z, a, s)
    third = said("flow", picture("v_prediction", second, z, a, s), z, a, s)
    assert torch.allclose(second, targets["v_prediction"], rtol=1e-8)
    assert torch.allclose(third, targets["flow"], rtol=1e-8)
    assert torch.allclose(said("epsilon", picture("flow", third, z, a, s), z, a, s), first, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_with_its_weight_is_that_of_pictures(kind: str) -> None:
    """What `--recipe authors` counts, whatever the model predicts."""
    z, a, s, (e, n, student) = setting()
    wide = (a / (a + s), s / (a + s)) if kind == "flow" else (a, s)
    levels = Levels(wide[0].flatten(), wide[1].flatten(), kind)
    outputs = [said(kind, x, z, a, s) for x in (e, n, student)]
    loss = esd({"e": outputs[2]}, {"e": outputs[0], "n": outputs[1]}, 1.5).loss(1.0)
    wanted = (student - (n - 1.5 * (e - n))).square().flatten(1).sum(1)
    assert torch.allclose(levels.as_pictures * loss, wanted, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_noised_pictures_come_with_what_tells_them(kind: str) -> None:
    _, _, _, (clean, noise, _) = setting()
    how: Any = {"prediction_type": kind}
    scheduler: Any = FlowMatchEulerDiscreteScheduler() if kind == "flow" else DDIMScheduler(**how)
    z, wanted = with_noise(scheduler, clean, noise, T)
    levels = Levels.at(scheduler, T)
    a, s = (value.double()[:, None, None, None] for value in (levels.alpha, levels.sigma))
    assert torch.allclose(z, a * clean + s * noise) and torch.allclose(picture(kind, wanted, z, a, s), clean, atol=1e-3)
    if kind == "flow":
        assert torch.allclose(levels.sigma, T / 1000) and torch.equal(as_pictures(scheduler)(T), (T / 1000).square())
    else:
        assert torch.allclose(z.float(), scheduler.add_noise(clean, noise, T).float(), atol=1e-6)


def bare(kind: Any, scheduler: Any, channels: int = 2) -> Any:
    """A scheduler, and latents of two channels; no network."""
    config = SimpleNamespace(in_channels=channels, patch_size=1, pos_embed_max_size=96)
    parts = {
        "scheduler": scheduler,
        "transformer": SimpleNamespace(config=config, dtype=torch.float32),
        "vae_scale_factor": 1,
    }
    here = torch.device("cpu")
    return kind(SimpleNamespace(device=here, _execution_device=here, **parts))


def test_latents_of_a_flow_are_at_the_step_that_they_are_labelled_with() -> None:
    """With a network that knows the picture, a trajectory is the line from its noise to it."""
    made = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 2, 4, 4, generator=made)

    class Oracle:
        counter = denoisers(tiny_unet()).counter

        def student(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
            """`u = (z - x₀) / σ`; of two halves the first leads away from the prompt."""
            pictures = torch.cat([-clean, clean]) if len(z) == 4 else clean
            assert condition.scale is not None and condition.scale.unique().tolist() == [guidance]
            return (z - pictures) / (t / 1000)[:, None, None, None]

    for guidance in (1.0, 3.0):
        oracle: Any = Oracle()
        scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=3.0)
        sampling = Sampling(10, guidance, scheduler="own", size=(4, 4))
        sampler = Sampler(oracle, bare(StableDiffusion3, scheduler), sampling)
        both, seed = torch.arange(2), torch.Generator().manual_seed(1)
        noise = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))
        read = lambda concept, template: Condition(torch.zeros(len(concept), 5, 6))  # noqa: E731
        points = sampler.bank(both, both, read, Condition(torch.zeros(1, 5, 6)), seed)
        assert len(points) == 20 and points.t.max() == 1000 and len(points.t.unique()) == 10
        aim = clean if guidance == 1 else (2 * guidance - 1) * clean  # −x₀ + 3 (x₀ + x₀)
        sigma = (points.t / 1000)[:, None, None, None]
        wanted = (1 - sigma) * aim[points.concept] + sigma * noise[points.concept]
        assert torch.allclose(points.z, wanted, atol=1e-4)


def test_a_flow_is_trained_by_a_logit_normal_density_shifted_as_its_own_schedule() -> None:
    """SD3's shift of 3 is `σ = 3 u / (1 + 2 u)`; that of FLUX.1 adds μ to the logit, more for larger pictures."""

    def logits(kind: Any, scheduler: Any, size: tuple[int, int], channels: int = 2) -> Tensor:
        sampler = Sampler(None, bare(kind, scheduler, channels), Sampling(10, scheduler="own", size=size))  # pyright: ignore
        clean, none = torch.zeros(20_000, 1, 1, 1), torch.zeros(20_000, dtype=torch.long)
        return (sampler.noised(clean, none, none, torch.Generator().manual_seed(0)).t.double() / 1000).logit()

    of_sd3 = logits(StableDiffusion3, FlowMatchEulerDiscreteScheduler(shift=3.0), (4, 4)).sigmoid()
    place = (of_sd3 / (3 - 2 * of_sd3)).logit(eps=1e-3)
    assert abs(float(place.mean())) < 0.03 and abs(float(place.std()) - 1) < 0.03
    for side in (32, 128):
        dynamic: Any = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        place = logits(Flux, dynamic, (side, side), 8).clamp(-8, 8)
        assert float(place.mean()) == pytest.approx(calculate_shift((side // 2) ** 2), abs=0.03)
        assert abs(float(place.std()) - 1) < 0.03
