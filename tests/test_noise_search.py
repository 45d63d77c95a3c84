"""`noise`: random states in place of a searched word, as large as the concept's; and what `spm` trains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.model.editable import open_model
from editkit.tuning.batches import states_of
from editkit.tuning.latents import Points
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.tuning.search.noise import Noise
from tests.cases import randn

TEXT, POOLED = randn(1, 2, 5, 64).float(), randn(2, 2, 64).float()


def found(concept: Tensor, first: int = 0, every: int = 1, step: int = 0, **options: Any) -> Condition:
    """What is found for rows `first`, `first + every`, ... of a batch of the given concepts."""
    prompts = SimpleNamespace(e=lambda concept, template: Condition(TEXT[concept], POOLED[concept]))
    mine = concept[first::every]
    points = Points(torch.zeros(len(mine), 1, 2, 2), mine, mine, mine)
    random = lambda row: states_of(RefineOptions("spm"), step, first + row * every)  # noqa: E731
    request: Any = SimpleNamespace(outer=points, prompts=prompts, random=random)
    result = Noise(**options).begin(SimpleNamespace()).find(request)  # pyright: ignore[reportArgumentType]
    assert result.which == []
    return result.searched


def test_states_are_as_large_as_the_concept_and_unlike_it() -> None:
    concept = torch.arange(2).repeat(50)
    states = found(concept)
    for field, own in (("text", TEXT), ("pooled", POOLED)):
        made = getattr(states, field)
        sizes = made.flatten(1).norm(dim=1) / own[concept].flatten(1).norm(dim=1)
        assert float(sizes.min()) >= 0.8 - 1e-5 and float(sizes.max()) <= 1.2 + 1e-5
        assert float(sizes.max() - sizes.min()) > 0.3
        alike = torch.nn.functional.cosine_similarity(made.flatten(1), own[concept].flatten(1))
        assert float(alike.mean().abs()) < 0.05 and len({*made.flatten(1)[:, 0].tolist()}) == 100
    assert (
        float(
            (found(concept, jitter=0).text.flatten(1).norm(dim=1) / TEXT[concept].flatten(1).norm(dim=1) - 1)
            .abs()
            .max()
        )
        < 1e-5
    )


def test_states_depend_on_the_row_and_the_step_and_not_on_the_process() -> None:
    concept = torch.tensor([0, 1, 1, 0])
    whole, first, second = found(concept), found(concept, 0, 2), found(concept, 1, 2)
    assert torch.equal(whole.text[0::2], first.text) and torch.equal(whole.text[1::2], second.text)
    assert torch.equal(whole.text, found(concept).text) and not torch.equal(whole.text, found(concept, step=1).text)


def test_a_state_that_is_like_the_concept_is_refused() -> None:
    """Of one number a state has the concept's sign or not: cosine 1 or −1."""
    prompts = SimpleNamespace(e=lambda concept, template: Condition(torch.ones(1, 1, 1)))
    points = Points(torch.zeros(1, 1, 2, 2), *(torch.zeros(1, dtype=torch.long) for _ in range(3)))
    request: Any = SimpleNamespace(outer=points, prompts=prompts, random=lambda row: torch.Generator().manual_seed(row))
    assert float(Noise().begin(SimpleNamespace()).find(request).searched.text) < 0  # pyright: ignore


def test_spm_trains_an_adapter_of_rank_one_on_the_blocks_and_searches_no_word(tmp_path: Path) -> None:
    model = open_model("emoji")
    options = RefineOptions.of(
        "spm", model.profile, steps=2, sampling_steps=2, batch=2, mixed_precision="no", rate=1e-3
    )
    assert options.lamb == 1000 and options.param == "blocks+lora:1"
    tuned = refine(model, tmp_path / "out", ["church"], options=options, device="cpu")
    assert all(".attentions." in name for name in tuned.factors) and not tuned.tensors
    assert any("ff.net" in name for name in tuned.factors) and any("proj_in" in name for name in tuned.factors)
    assert {change.up.shape[1] for change in tuned.factors.values()} == {1}
    assert any(float(change.up.norm()) > 0 for change in tuned.factors.values())
