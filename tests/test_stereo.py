"""STEREO: the target of its second stage against equations written out in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.tuning.latents import Points
from editkit.tuning.objectives import OBJECTIVES
from editkit.tuning.passes import Passes, evenly
from editkit.tuning.prompts import Prompts
from tests.cases import randn
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
