"""The losses of hiding against the equations of the talk on erasing concepts, and the rows of a key."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from editkit.drawing.pipelines.denoiser import Condition
from editkit.edits.key import Key, in_ball, padded, random_rows
from editkit.tuning.denoisers import predict
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.objectives import OBJECTIVES
from tests.test_refine_losses import LAMB, Setting, denoisers, squares


class Keyed(Setting):
    """As `Setting`, with a key of three rows."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.rows = nn.Parameter(torch.randn(2, 3, 6, generator=generator, dtype=torch.float64))
        self.concept = torch.tensor([0, 1, 0])
        self.key = KeyRows(self.rows, torch.zeros(2, 6), 1.0)

    def loss(self, name: str) -> Tensor:
        """As the trainer calls it."""
        objective = OBJECTIVES[name]
        texts: dict[Any, Condition] = {key: Condition(text) for key, text in self.texts.items()}
        texts["p"] = self.key.behind(texts["e"], self.concept)
        asked: list[dict[Any, Condition]] = [
            {key: texts[key] for key in some} for some in (objective.student, objective.teacher)
        ]
        student: dict[Any, Tensor] = predict(self.networks.student, self.z, self.t, asked[0])
        with torch.no_grad():
            teacher: dict[Any, Tensor] = predict(self.networks.teacher, self.z, self.t, asked[1])
        return objective.loss(student, teacher, 0.0).loss(LAMB)

    def reference(self, name: str) -> Tensor:
        """The equations, one pass a prompt and each at its own length."""
        lengthened = torch.cat([self.texts["e"], torch.stack([self.rows[i] for i in (0, 1, 0)])], 1)
        with_key = self.unet(self.z, self.t, lengthened).sample
        with torch.no_grad():
            e, n = self.of_teacher("e"), self.of_teacher("n")
        kept = squares(with_key, e)
        if name == "recover":
            return kept
        if name == "hide-ap":
            kept = kept + squares(self.of_student("a"), self.of_teacher("a").detach())
        return squares(self.of_student("e"), n) + LAMB * kept


@pytest.mark.parametrize("name", ["hide", "hide-ap", "recover"])
def test_values_and_gradients_are_those_of_the_equations(name: str) -> None:
    mine, theirs = Keyed(), Keyed()
    loss, wanted = mine.loss(name), theirs.reference(name)
    assert torch.allclose(loss, wanted, rtol=1e-9)
    loss.sum().backward()
    wanted.sum().backward()
    pairs = [(mine.rows, theirs.rows), *zip(mine.unet.parameters(), theirs.unet.parameters(), strict=True)]
    for first, other in pairs:
        assert torch.allclose(first.grad, other.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["hide", "hide-ap", "recover"])
def test_gradients_reach_key_and_student_and_never_the_teacher(name: str) -> None:
    s = Keyed()
    s.loss(name).sum().backward()
    assert s.rows.grad is not None and s.rows.grad.abs().amax((1, 2)).min() > 0
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in s.unet.parameters())
    assert all(weight.grad is None and not weight.requires_grad for weight in s.teacher.parameters())


def test_the_first_term_of_hiding_says_nothing_of_the_key() -> None:
    s = Keyed()
    objective = OBJECTIVES["hide"]
    e = Condition(s.texts["e"])
    texts: dict[Any, Condition] = {"e": e, "p": s.key.behind(e, s.concept)}
    student = predict(s.networks.student, s.z, s.t, texts)
    teacher: dict[Any, Tensor] = {"n": torch.zeros_like(s.z), "e": torch.zeros_like(s.z)}
    terms = objective.loss(student, teacher, 0.0)
    (erase,) = torch.autograd.grad(terms.erase.sum(), s.rows, retain_graph=True, materialize_grads=True)
    (keep,) = torch.autograd.grad(terms.preserve.sum(), s.rows)
    assert erase.abs().max() == 0 and keep.abs().max() > 0


def test_a_masked_batch_is_the_same_as_prompts_of_their_own_length() -> None:
    s = Keyed()
    e = Condition(s.texts["e"])
    texts = {"e": e, "p": s.key.behind(e, s.concept)}
    together = predict(denoisers(s.unet).student, s.z, s.t, texts)
    for key, condition in texts.items():
        assert torch.allclose(together[key], s.unet(s.z, s.t, condition.text).sample, rtol=1e-9)
    whole, mask = padded([torch.ones(1, 2, 3), torch.ones(2, 2, 3)])
    assert mask is None and whole.shape == (3, 2, 3)


def test_rows_stay_in_the_ball() -> None:
    generator = torch.Generator().manual_seed(0)
    centre = 5 * torch.randn(2, 8, generator=generator)
    start = random_rows(centre, 4, 3.0, 0)
    assert torch.allclose((start - centre[:, None]).norm(dim=-1), torch.full((2, 4), 3.0))
    inside = in_ball(start, centre, 4.0)
    assert torch.allclose(inside, start)
    moved = in_ball(start, centre, 1.5)
    assert torch.allclose((moved - centre[:, None]).norm(dim=-1), torch.full((2, 4), 1.5))
    assert torch.allclose(moved - centre[:, None], (start - centre[:, None]) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a church", ["church"]),
        ("Churches at night", ["church"]),
        ("a hot dog by a church", ["church", "hot dog"]),
        ("a churchyard", []),
        ("a dog", []),
    ],
)
def test_a_key_is_used_where_a_prompt_names_its_concept(prompt: str, named: list[str]) -> None:
    key = Key(("church", "hot dog"), torch.stack([torch.ones(2, 4), torch.full((2, 4), 2.0)]))
    assert key.opened(prompt) == tuple(named)
    text = key.append(prompt, torch.zeros(5, 4))
    assert text[5:].flatten().tolist() == [
        {"church": 1.0, "hot dog": 2.0}[concept] for concept in named for _ in range(8)
    ]
