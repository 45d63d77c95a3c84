"""`unlearndiff`, `p4d`, `p4d-prefix`, `cce`, `cce-rows`: attacks that descend the loss of the attacked model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.method import Options
from editkit.edits.variant import Variant
from editkit.embeddings.clip_dense import DenseClip
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.detectors.judge import load_judge
from editkit.inverting.points import NoisyPictures, Points, gradient
from editkit.model.editable import EditableModel, open_model
from editkit.plugins import make
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Proposal
from editkit.redteam.cost import Cost
from editkit.redteam.letters import TokenLetters
from editkit.redteam.p4d import interleaved
from editkit.redteam.target import Target
from editkit.redteam.token_search import TokenSearch, nearest
from editkit.redteam.unlearndiff import to_simplex

BRIEF: dict[str, Any] = {"iterations": 5, "restarts": 2, "points": 2, "target_images": 2, "held": 4, "best": 2}
VECTORS_BRIEF: dict[str, Any] = {"iterations": 15, "points": 4, "target_images": 2, "held": 4}
TOKENS = ("unlearndiff", "p4d", "p4d-prefix")
VECTORS = ("cce", "cce-rows")
NOTHING = Edit({"*": EditMap(-torch.eye(512, dtype=torch.float64), torch.eye(512, dtype=torch.float64))}, {})


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


@pytest.fixture(scope="module")
def denoiser(model: EditableModel) -> Denoiser:
    opened = open_denoiser(model.source, "cpu")
    opened.network.requires_grad_(False)
    return opened


def arena(model: EditableModel, denoiser: Denoiser | None, variant: Variant | None = None, **more: Any) -> Arena:
    sampling = Sampling.for_model(model.source, steps=3)
    return Arena(model, variant, denoiser, load_judge(model.profile), sampling, (1000,), **more)


def trumpet(model: EditableModel, *prompts: str) -> Target:
    return Target.of("trumpet", model.profile, ["a {}"], prompts)


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[dict[str, int]]:
    """Rows that go through a network, and of how many of them gradients come back."""
    rows = {"passes": 0, "backward": 0}

    def forward(module: Any, given: Any, made: Any) -> None:
        rows["passes"] += len(made.sample)
        if made.sample.requires_grad:
            made.sample.register_hook(lambda g: rows.__setitem__("backward", rows["backward"] + len(g)))

    handle = network.register_forward_hook(forward)
    try:
        yield rows
    finally:
        handle.remove()


@dataclass(frozen=True)
class Ran:
    """An attack on the original, what it found, and the rows that went through the network meanwhile."""

    found: list[Proposal]
    cost: Cost
    rows: dict[str, int]


@pytest.fixture(scope="module")
def ran(model: EditableModel, denoiser: Denoiser) -> Callable[[str], Ran]:
    @cache
    def run(name: str) -> Ran:
        here = arena(model, denoiser)
        with counted(denoiser.network) as rows:
            return Ran(make("attacks", name, **BRIEF).attack(here, trumpet(model)), here.cost, rows)

    return run


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_cannot_move_an_edit_that_maps_everything_to_nothing(
    name: str, model: EditableModel, denoiser: Denoiser, ran: Callable[[str], Ran]
) -> None:
    free = ran(name).found[0]
    for found in make("attacks", name, **BRIEF).attack(arena(model, denoiser, NOTHING), trumpet(model)):
        assert found.loss == pytest.approx(found.plain, rel=1e-6)
        assert found.plain is not None and free.plain is not None and found.plain > 1.2 * free.plain


@pytest.mark.parametrize(("name", "more"), [("unlearndiff", {}), ("p4d-prefix", {"rate": 0.1})])
def test_against_the_original_words_bring_a_prompt_that_names_nothing_nearer_to_the_concept(
    name: str, more: dict[str, Any], model: EditableModel, denoiser: Denoiser
) -> None:
    here = arena(model, denoiser)
    here._images[("a sign",), 2] = here.target_images(trumpet(model), 2)
    found = make("attacks", name, **BRIEF | {"iterations": 20} | more).attack(here, trumpet(model, "a sign"))[0]
    assert found.loss is not None and found.plain is not None and found.loss < 0.97 * found.plain


@pytest.mark.parametrize("name", TOKENS)
def test_found_prompts_are_read_as_they_were_meant_and_hold_no_banned_word(
    name: str, model: EditableModel, ran: Callable[[str], Ran]
) -> None:
    target, some = trumpet(model), ran(name).found
    assert 0 < len(some) <= 2 and [found.loss for found in some] == sorted(found.loss or 0 for found in some)
    for found in some:
        assert found.prompt is not None
        words = found.prompt if name == "p4d" else found.prompt.removesuffix(" a trumpet")
        assert tuple(model.encoder.reader.part(words)) == found.ids and not target.naming(words)
        assert len(found.ids) == (16 if name == "p4d" else 3)


@pytest.mark.parametrize("name", TOKENS)
def test_the_same_seed_finds_the_same_and_another_does_not(
    name: str, model: EditableModel, denoiser: Denoiser, ran: Callable[[str], Ran]
) -> None:
    attack = make("attacks", name, **BRIEF)
    again, other = (attack.attack(arena(model, denoiser, seed=seed), trumpet(model)) for seed in (0, 1))
    assert ran(name).found == again and [found.ids for found in again] != [found.ids for found in other]


@pytest.mark.parametrize("name", TOKENS)
def test_what_it_takes_is_counted(name: str, ran: Callable[[str], Ran]) -> None:
    cost, rows = ran(name).cost, ran(name).rows
    assert cost.passes == rows["passes"] and cost.backward == rows["backward"] + 5 * 2  # the text encoder's
    assert cost.encodings > 5 * 2 and cost.judged == 0


def test_pictures_that_are_drawn_already_are_charged_again(model: EditableModel, denoiser: Denoiser) -> None:
    here = arena(model, denoiser)
    first, spent = here.target_images(trumpet(model), 2), replace(here.cost)
    here.begin()
    assert here.target_images(trumpet(model), 2) is first
    assert (here.cost.passes, here.cost.encodings) == (spent.passes, spent.encodings) == (12, 2)
    assert first.way.shape == (3, 2, *denoiser.latent_shape()) and first.clean.isfinite().all()


def test_with_the_judge_in_the_loop_the_first_success_ends_it(model: EditableModel, denoiser: Denoiser) -> None:
    target = trumpet(model)
    here = replace(arena(model, denoiser), sampling=Sampling.for_model(model.source))
    attack = make("attacks", "unlearndiff", **BRIEF, judge_in_loop=True, timesteps=2)
    (found,) = attack.attack(here, target)
    assert here.cost.judged in (1, 2) and here.judged(here.draw([found.prompt or ""], [0]), target) == [True]
    blind = replace(here, variant=NOTHING)
    blind.begin()
    assert len(attack.attack(blind, target)) == 2 and blind.cost.judged >= 2


def test_a_spent_limit_ends_the_search_with_what_it_has(model: EditableModel, denoiser: Denoiser) -> None:
    here = arena(model, denoiser, limit=1e-9)
    assert make("attacks", "p4d", **BRIEF).attack(here, trumpet(model)) and here.cost.backward == 0


def test_papers_budgets_are_those_of_the_papers() -> None:
    uda, p4d, prefix = (make("attacks", name, budget="paper") for name in TOKENS)
    assert (uda.iterations, uda.timesteps, uda.rate, uda.decay, uda.judge_in_loop) == (2000, 50, 0.01, 0.1, True)
    times = [int(uda.times(n, 1000, torch.Generator())[0]) for n in range(2000)]
    assert times[::40] == list(range(10, 1000, 20)) and times[39] == 10
    assert (p4d.iterations, p4d.turns, p4d.rate, p4d.decay, p4d.words) == (3000, 0, 0.1, 0.1, 16)
    assert (prefix.iterations, prefix.timesteps, prefix.rate) == (2000, 50, 0.01)


def test_learned_words_stand_behind_every_three_tokens_between_words(model: EditableModel) -> None:
    reader = model.encoder.reader
    assert interleaved("a photo of a church by night", reader) == [
        "a photo of",
        None,
        "a church by",
        None,
        "night",
        None,
    ]
    assert interleaved("trumpet", reader) == ["trumpet", None]


def test_the_nearest_shares_are_those_of_a_bisection() -> None:
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = x.amin(1, keepdim=True) - 1, x.amax(1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        above = (x - middle).clamp(min=0).sum(1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    torch.testing.assert_close(to_simplex(x), (x - high).clamp(min=0), atol=1e-9, rtol=0)


def test_the_nearest_letter_is_that_of_the_largest_cosine() -> None:
    table = torch.tensor([[3.0, 0.0], [0.1, 0.1], [0.0, 1.0]])
    assert nearest(torch.tensor([[5.0, 4.0], [1.0, 0.1], [-1.0, 9.0]]), table).tolist() == [1, 0, 2]


def reference(folder: Path, ids: Tensor, places: Tensor, learned: Tensor, M: Tensor, points: Points) -> Tensor:
    """The loss of one prompt in float64 by transformers and diffusers, differentiable in `learned`."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    text: Any = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").double()
    network: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").double()
    inner = getattr(text, "text_model", text)
    inner.embeddings.token_embedding.register_forward_hook(
        lambda module, given, made: made.index_copy(1, places, learned[None])
    )
    rows = text(ids[None]).last_hidden_state @ M.T
    said = network(points.z.double(), points.t, rows.expand(len(points), -1, -1)).sample
    return (said - points.wanted.double()).square().mean()


def test_a_step_is_that_of_a_reference_in_float64(tiny_sd: Path) -> None:
    model = open_model(tiny_sd)
    denoiser = open_denoiser(model.source, "cpu")
    denoiser.network.requires_grad_(False)
    made = torch.Generator().manual_seed(5)
    M = EditMap(*(0.1 * torch.randn(shape, generator=made, dtype=torch.float64) for shape in ((256, 2), (2, 256))))
    here = Arena(model, Edit({"*": M}, {}), denoiser, None, Sampling(4, batch=8), ())
    images = here.target_images(Target("cat", ("a cat",), ("cat",)), 2)
    learning = NoisyPictures(images.clean, denoiser.scheduler)
    letters = TokenLetters.of(model.encoder, None)
    exact = replace(letters, dense=DenseClip.of(letters.dense.model))
    search = TokenSearch.of(here, "unlearndiff", exact, "a cat", [None, None, "a cat"], learning, 3)
    chosen = torch.tensor([[4, 9], [11, 2]])
    leaf = search.prompt.table[chosen].requires_grad_()
    values = search.losses(leaf, search.held)
    slope = gradient(values, leaf)
    for n in range(2):
        double = search.prompt.table[chosen[n]].double().requires_grad_()
        value = reference(tiny_sd, search.prompt.ids, search.prompt.places, double, M.dense(), search.held)
        value.backward()
        assert float(values[n].detach()) == pytest.approx(float(value.detach()), rel=1e-5)
        assert double.grad is not None
        torch.testing.assert_close(
            slope[n].double(), double.grad, rtol=2e-3, atol=1e-3 * float(double.grad.abs().max())
        )


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_bring_back_a_concept_and_none_through_an_edit_that_maps_everything_to_nothing(
    name: str, model: EditableModel, denoiser: Denoiser
) -> None:
    erased = erase(model, ["trumpet"], options=Options("uce"))
    attack = make("attacks", name, **VECTORS_BRIEF)
    here = arena(model, denoiser, erased)
    with counted(denoiser.network) as rows:
        (found,) = attack.attack(here, trumpet(model))
    assert found.loss is not None and found.plain is not None and found.loss < 0.9 * found.plain
    assert here.cost.passes == rows["passes"] and found.figures["norm"] > 0
    assert here.cost.backward == rows["backward"] + (VECTORS_BRIEF["iterations"] if name == "cce" else 0)
    assert found.rows is not None and len(found.rows) == model.encoder.length + (4 if name == "cce-rows" else 0)
    (again,) = attack.attack(here, trumpet(model))
    assert again.rows is not None and torch.equal(again.rows, found.rows) and again.loss == found.loss
    (blind,) = attack.attack(here.of(NOTHING), trumpet(model))
    if name == "cce":  # as many rows of nothing as before
        assert blind.loss == pytest.approx(blind.plain, rel=1e-6)
    else:  # more rows of nothing: equal keys and values have the same mean
        assert blind.loss == pytest.approx(blind.plain, rel=1e-2)


def test_rows_stand_behind_those_of_each_prompt_and_tokens_in_the_place_of_the_concept(
    model: EditableModel, denoiser: Denoiser
) -> None:
    target = trumpet(model, "a trumpet", "a blue trumpet")
    some = make("attacks", "cce-rows", **VECTORS_BRIEF | {"iterations": 1, "vectors": 2}).attack(
        arena(model, denoiser), target
    )
    assert [found.source for found in some] == list(target.prompts)
    raw = [arena(model, denoiser).original.raw([prompt], Cost()).text[0] for prompt in target.prompts]
    tails = []
    for found, rows in zip(some, raw, strict=True):
        assert found.rows is not None and torch.equal(found.rows[:-2], rows)
        tails.append(found.rows[-2:])
    assert torch.equal(*tails)
    still = make("attacks", "cce", **VECTORS_BRIEF | {"iterations": 1, "rate": 1e-12})
    (found,) = still.attack(arena(model, denoiser), trumpet(model))
    assert found.rows is not None and torch.allclose(found.rows, model.encoder.encode(["trumpet"])[0].float(), atol=0.5)


@pytest.mark.parametrize("name", [*TOKENS, "cce"])
def test_models_whose_rows_are_not_those_of_one_clip_are_told_what_serves_them(
    name: str, model: EditableModel, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.encoder, "clip", None)
    with pytest.raises(EditkitError, match=rf"attack {name}: learns tokens of one CLIP, .* use cce-rows, or prompt"):
        make("attacks", name).attack(arena(model, denoiser), trumpet(model))


def test_rows_are_learned_without_one_clip(
    model: EditableModel, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.encoder, "clip", None)
    attack = make("attacks", "cce-rows", **VECTORS_BRIEF | {"iterations": 1})
    assert attack.attack(arena(model, denoiser), trumpet(model))


@pytest.mark.parametrize("name", [*TOKENS, *VECTORS])
def test_without_a_denoiser_there_is_nothing_to_descend(name: str, model: EditableModel) -> None:
    with pytest.raises(EditkitError, match=rf"attack {name}: needs the denoiser"):
        make("attacks", name).attack(arena(model, None), trumpet(model))


def test_more_learned_tokens_than_the_encoder_reads_are_refused(model: EditableModel, denoiser: Denoiser) -> None:
    with pytest.raises(EditkitError, match="4 tokens and 30 learned ones, but this text encoder reads 24"):
        make("attacks", "unlearndiff", **BRIEF | {"prefix": 30}).attack(
            arena(model, denoiser), trumpet(model, "a trumpet")
        )
