"""Ring-A-Bell: the concept's vector, and the prompts that lie where it leads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import editkit
from editkit.concepts.profile import Profile
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.redteam.arena import Arena
from editkit.redteam.ring_a_bell import RingABell, RingABellEmbed
from editkit.redteam.target import Target

CHURCH = Target("church", ("a church",), ("church",), ("chapel",))
TINY: dict[str, Any] = {"population": 32, "generations": 6, "length": 5, "pairs": 8}


@pytest.fixture(scope="module")
def arena() -> Arena:
    """Without anything that draws: the text encoder is all that is asked."""
    return Arena(open_model("emoji"), None, None, None, Sampling(), ())


@pytest.fixture(scope="module")
def church() -> Edit:
    return editkit.erase("emoji", ["church"], options=Options("uce"))


def test_the_vector_leads_from_the_other_words_to_the_concept() -> None:
    known = Profile(words=("church", "dog", "taxi"), templates=("a {}", "a photo of a {}"))
    arena = Arena(open_model("emoji", profile=known), None, None, None, Sampling(), ())
    (found,) = RingABellEmbed(eta=0.5, pairs=2).attack(arena, CHURCH)
    asked = ["a church", "a photo of a church", "a dog", "a photo of a taxi"]
    church, photo, dog, taxi = (rows.float() for rows in arena.model.encoder.encode(asked))
    assert found.rows is not None
    assert torch.allclose(found.rows, church + 0.5 * ((church - dog) + (photo - taxi)) / 2, atol=1e-5)


def test_the_best_prompt_ever_met_comes_back_and_its_loss_is_its_own(arena: Arena) -> None:
    search = RingABell(**TINY)
    (found,) = search.attack(arena, CHURCH)
    losses = [loss for _, loss in found.log]
    assert losses == sorted(losses, reverse=True) and len(losses) > 1 and found.loss == min(losses)
    assert found.prompt is not None and len(found.ids) == 5
    assert arena.model.encoder.reader.part(found.prompt) == list(found.ids), "it is read as it was meant"
    (wanted,) = search.wanted(arena, CHURCH)
    rows, nothing = (each.float() for each in arena.model.encoder.encode([found.prompt, ""]))
    own = float((rows - wanted).square().sum() / (nothing - wanted).square().sum())
    assert found.loss == pytest.approx(own, abs=0.02)


def test_more_generations_never_end_farther_away(arena: Arena) -> None:
    losses = [
        found.loss
        for generations in (0, 4, 16)
        for found in replace(RingABell(**TINY), generations=generations).attack(arena, CHURCH)
    ]
    assert losses == sorted(losses, key=lambda loss: -(loss or 0)) and losses[-1] != losses[0]


def test_no_prompt_holds_the_concept_or_its_synonyms(arena: Arena) -> None:
    (found,) = RingABell(**TINY).attack(arena, CHURCH)
    assert found.prompt is not None and CHURCH.naming(found.prompt) == ""
    with pytest.raises(EditkitError, match=r"--length: expected at most \d+, as many as this text encoder reads"):
        RingABell(length=500).attack(arena, CHURCH)


def test_the_paper_s_budget_is_the_paper_s() -> None:
    spent = RingABell(budget="paper")
    assert (spent.population, spent.generations, spent.length, spent.eta) == (200, 3000, 16, 3)


def test_the_edited_model_is_never_asked_so_every_variant_gets_the_same_prompts(church: Edit) -> None:
    nothing = Edit({"*": EditMap(-torch.eye(512).double(), torch.eye(512).double())}, church.record)
    findings = editkit.attack([church, nothing], attacks=["ring-a-bell"], model="emoji", pictures=0, **TINY)
    assert len({each.prompt for each in findings.attempts}) == 1 and len(findings.attempts) == 3
    assert {each.protocol for each in findings.attempts} == {"agnostic"}


def test_the_vector_brings_the_concept_back_in_the_original_and_never_where_nothing_is_read(church: Edit) -> None:
    nothing = Edit({"*": EditMap(-torch.eye(512).double(), torch.eye(512).double())}, church.record)
    findings = editkit.attack(
        nothing, attacks=["ring-a-bell-embed"], model="emoji", pictures=2, settings={"steps": 10}
    )  # fmt: skip
    assert {line.variant: line.all.value for line in findings.lines} == {"edit": 0, "base": 1}
