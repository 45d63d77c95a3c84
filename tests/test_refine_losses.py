"""The objectives against hand-written references in float64, on a tiny UNet; and the Gumbel-Softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.sd import unet_output
from editkit.errors import EditkitError
from editkit.tuning.denoisers import Denoisers, predict
from editkit.tuning.objectives import AUTHORS, OBJECTIVES, Objective
from editkit.tuning.search.gumbel import gumbel_noise, gumbel_softmax

LAMB, ETA, ROWS = 0.7, 1.5, 3
WITHOUT_KEY = {
    name: objective
    for name, objective in OBJECTIVES.items()
    if not (objective.has_key or objective.reads_attention or objective.on_states)
}
EVERY = {**WITHOUT_KEY, "ap, authors": AUTHORS["ap"]}


def tiny_unet(seed: int = 0) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None,
        block_out_channels=(8,),
        layers_per_block=1,
        cross_attention_dim=6,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return unet.double()


def denoisers(unet: Any) -> Denoisers:
    """Of a UNet without a pipeline."""
    return Denoisers(unet, lambda z, t, condition, network: unet_output(network, z, t, condition))


class Setting:
    """A teacher, a student that has moved away from it, latents and prompts."""

    def __init__(self) -> None:
        unet = tiny_unet()
        self.networks = denoisers(unet)
        self.networks.keep_teacher()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in unet.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        self.unet = unet
        self.teacher: Any = self.networks._copy
        self.z = torch.randn(ROWS, 2, 4, 4, generator=generator, dtype=torch.float64)
        self.t = torch.tensor([10, 500, 999])
        self.texts = {
            key: torch.randn(ROWS, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
            for key in "enaos"
        }

    def of_student(self, key: str) -> Tensor:
        return self.unet(self.z, self.t, self.texts[key]).sample

    def of_teacher(self, key: str) -> Tensor:
        return self.teacher(self.z, self.t, self.texts[key]).sample

    def package(self, objective: Objective) -> tuple[Tensor, Tensor]:
        """As the trainer and the search call it: the loss, and what the search maximises, of each row."""

        def both(student: tuple[Any, ...], teacher: tuple[Any, ...]) -> Any:
            return (
                predict(self.networks.student, self.z, self.t, {key: Condition(self.texts[key]) for key in student}),
                predict(self.networks.teacher, self.z, self.t, {key: Condition(self.texts[key]) for key in teacher}),
            )

        student, teacher = both(objective.student, objective.teacher)
        loss = objective.loss(student, teacher, ETA).loss(LAMB)
        if not objective.search_reads:
            return loss, torch.zeros(ROWS)
        student, teacher = both(objective.search_reads, ("a",))
        return loss, objective.searched(student, teacher, LAMB)


def squares(first: Tensor, other: Tensor) -> Tensor:
    return torch.stack([((first[i] - other[i]) ** 2).sum() for i in range(len(first))])


def reference(name: str, s: Setting) -> tuple[Tensor, Tensor]:
    """The equations, one pass a prompt: the loss, and what the search maximises."""
    none = torch.zeros(ROWS)
    if name == "naive":
        e, n, target = s.of_student("e"), s.of_student("n"), s.of_teacher("n")
        return squares(e, target) + LAMB * squares(n, target), none
    if name == "esd":
        n, e = s.of_teacher("n"), s.of_teacher("e")
        return squares(s.of_student("e"), n - ETA * (e - n)), none
    if name == "ca":
        with torch.no_grad():
            anchor = s.of_student("n")
        return squares(s.of_student("e"), anchor), none
    kept = squares(s.of_student("a"), s.of_teacher("a"))
    if name in ("ap", "debias"):
        return squares(s.of_student("e"), s.of_teacher("n")) + LAMB * kept, kept
    if name == "aegis":
        e, n, a = s.of_student("e"), s.of_teacher("n"), s.of_teacher("a")
        return squares(e, n - ETA * (a - n)), -squares(s.of_student("e"), a)
    if name in ("ap, authors", "spm"):
        n, e = s.of_teacher("n"), s.of_teacher("e")
        return squares(s.of_student("e"), n - ETA * (e - n)) + LAMB * kept, kept
    if name == "stereo":
        o, n, alike = s.of_teacher("o"), s.of_teacher("n"), s.of_teacher("s")
        return squares(s.of_student("e"), o + ETA * (n - o) - ETA * (alike - o)), none
    both = squares(s.of_student("e"), s.of_teacher("a")) + LAMB * kept
    return both, both


@pytest.mark.parametrize("name", EVERY)
def test_values_and_gradients_are_those_of_the_equations(name: str) -> None:
    mine, theirs = Setting(), Setting()
    loss, searched = mine.package(EVERY[name])
    wanted, wanted_searched = reference(name, theirs)
    assert torch.allclose(loss, wanted, rtol=1e-9)
    assert torch.allclose(searched, wanted_searched.to(searched), rtol=1e-9)
    loss.sum().backward()
    wanted.sum().backward()
    for (key, weight), other in zip(mine.unet.named_parameters(), theirs.unet.parameters(), strict=True):
        assert torch.allclose(weight.grad, other.grad, rtol=1e-6, atol=1e-9), key


@pytest.mark.parametrize("name", EVERY)
def test_the_teacher_never_receives_a_gradient(name: str) -> None:
    s = Setting()
    loss, searched = s.package(EVERY[name])
    (loss.sum() + searched.sum()).backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in s.teacher.parameters())
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in s.unet.parameters())


def test_the_search_of_age_sees_both_terms_and_that_of_ap_the_second_alone() -> None:
    s = Setting()
    far = torch.autograd.grad(squares(s.of_student("e"), s.of_teacher("a")).sum(), s.texts["a"])[0]
    kept = torch.autograd.grad(squares(s.of_student("a"), s.of_teacher("a")).sum(), s.texts["a"])[0]
    for name, wanted in (("ap", kept), ("age", far + LAMB * kept)):
        gradient = torch.autograd.grad(s.package(OBJECTIVES[name])[1].sum(), s.texts["a"])[0]
        assert torch.allclose(gradient, wanted, rtol=1e-7, atol=1e-10)
    assert far.abs().max() > 1e-3 and kept.abs().max() > 1e-3


def test_concept_ablation_pulls_the_concept_and_not_the_anchor() -> None:
    s = Setting()
    loss, _ = s.package(OBJECTIVES["ca"])
    gradients = torch.autograd.grad(loss.sum(), [s.texts["e"], s.texts["n"]], allow_unused=True, materialize_grads=True)
    assert gradients[0].abs().max() > 0 and gradients[1].abs().max() == 0


def test_an_objective_without_a_search_says_so() -> None:
    with pytest.raises(EditkitError, match="use ap or age"):
        OBJECTIVES["esd"].searched({}, {}, 1.0)


def test_straight_through_is_one_hot_forward_and_soft_backward() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    noise = gumbel_noise((4, 7), generator).double()
    values = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    hard, soft = gumbel_softmax(logits, noise, 2.0, True), gumbel_softmax(logits, noise, 2.0, False)
    assert torch.allclose(hard.sum(1), torch.ones(4).double()) and torch.allclose(hard.max(1).values, hard.sum(1))
    assert hard.argmax(1).equal((logits + noise).argmax(1))
    straight, smooth = (torch.autograd.grad((weights * values).sum(), logits)[0] for weights in (hard, soft))
    assert torch.allclose(straight, smooth)
    assert torch.autograd.gradcheck(lambda given: gumbel_softmax(given, noise, 2.0, False), (logits,))


def test_gumbel_noise_is_gumbel() -> None:
    noise = gumbel_noise((200_000,), torch.Generator().manual_seed(0))
    assert abs(float(noise.mean()) - 0.5772) < 0.01 and abs(float(noise.std()) - torch.pi / 6**0.5) < 0.01
    logits = torch.tensor([0.0, 1.0, 2.0])
    noise = gumbel_noise((100_000, 3), torch.Generator().manual_seed(1))
    drawn = gumbel_softmax(logits, noise, 0.5, True).mean(0)
    assert torch.allclose(drawn, logits.softmax(0), atol=0.01)
