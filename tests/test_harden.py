"""`editkit harden`: what is found is erased, the record makes the edit again, and what it does not hold is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import editkit
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.gram import norm
from editkit.edits.problem import Problem, Rows
from editkit.errors import EditkitError
from editkit.redteam.arena import Arena
from editkit.redteam.harden import harden
from editkit.redteam.hardening import Round
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.recipe import Recipe
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_edit, save_edit
from tests.cli import run
from tests.tiny_pipelines import save

SEARCH = PromptSearch(population=48, generations=3, restarts=1, search_rounds=3, swaps=24, best=4)
WORDS = ("guitar", "violin", "drum", "dog", "giraffe", "castle", "pizza", "umbrella", "house", "tree", "car", "fish")
KNOWN = "li giraffe"
"""Draws a trumpet where "trumpet" is erased with the defaults of UCE."""


@pytest.fixture(scope="module")
def trumpet() -> Edit:
    return editkit.erase("emoji", ["trumpet"], options=editkit.Options("uce"), vocabulary=WORDS)


def test_a_found_prompt_is_erased_and_the_concept_no_less(trumpet: Edit) -> None:
    more = editkit.erase(
        "emoji", ["trumpet"], options=editkit.Options("uce"), found={"trumpet": [KNOWN]}, vocabulary=WORDS
    )
    assert more.record["found"] == {"trumpet": [KNOWN]}
    plain, hard = (edit.record["figures"]["erasure_residual"] for edit in (trumpet, more))
    assert hard < 1.1 * plain
    encoder, gram = editkit.open_model("emoji").encoder, editkit.open_model("emoji").gram
    (rows,) = encoder.encode([KNOWN])
    light = editkit.erase(
        "emoji", ["trumpet"], options=editkit.Options("uce"), found={"trumpet": [KNOWN]}, found_weight=0.01,
        vocabulary=WORDS,
    )  # fmt: skip
    moved, slightly, still = (norm(edit.map.embeddings(rows) - rows, gram) for edit in (more, light, trumpet))
    assert moved > slightly > still and moved > 1.5 * still


def test_all_found_prompts_together_weigh_as_much_as_the_concept() -> None:
    torch.manual_seed(0)
    own, some, many = (Rows(torch.randn(n, 5), torch.randn(n, 5)) for n in (4, 3, 60))
    problem = Problem((own,), None, {}, torch.eye(5, dtype=torch.float64), None)
    for rows in (some, many):
        with_rows = problem.with_found([rows], weight=2.0)
        (weighted,) = with_rows.found
        factor = weighted.source.square().sum() / rows.source.double().square().sum()
        assert float(factor) * len(rows.source) == pytest.approx(2.0 * with_rows.count)
        assert torch.equal(with_rows.C[:4], own.source.double()) and with_rows.count == 4


def test_a_weighted_row_is_a_repeated_one() -> None:
    from editkit.edits.solve import Penalty, solve

    torch.manual_seed(1)
    C, targets = torch.randn(3, 6).double(), torch.randn(3, 6).double()
    once = Rows(C[:1], targets[:1]).weighted(3.0)
    penalty = Penalty.of(0.1, None, 6, 1.0)
    weighted = solve(torch.cat([C[1:], once.source]), torch.cat([targets[1:], once.target]), penalty, 1.0)
    repeated = solve(C[[1, 2, 0, 0, 0]], targets[[1, 2, 0, 0, 0]], penalty, 1.0)
    assert torch.allclose(weighted.dense(), repeated.dense(), rtol=1e-9)


def test_the_record_of_a_hardened_edit_makes_it_again(trumpet: Edit) -> None:
    seen: list[Round] = []
    hard = harden(
        trumpet, "emoji", rounds=1, pictures=1, searches=1, per_round=3, search=SEARCH, seed=3, tell=seen.append,
        vocabulary=WORDS, steps=6,
    )  # fmt: skip
    assert [each.number for each in seen] == list(range(len(seen))) and hard.record["hardened"]["rounds"]
    again = Recipe.of(hard, editkit.open_model("emoji"), WORDS, ()).made(hard.record.get("found", {}))
    assert torch.allclose(again.map.dense(), hard.map.dense(), atol=1e-9)


def test_without_pictures_a_prompt_counts_that_comes_near_enough(trumpet: Edit) -> None:
    seen: list[Round] = []
    for below, share in ((10.0, 1.0), (1e-9, 0.0)):
        hard = harden(
            trumpet,
            "emoji",
            rounds=1,
            pictures=0,
            below=below,
            searches=1,
            search=SEARCH,
            tell=seen.append,
            vocabulary=WORDS,
        )
        assert hard.record["hardened"]["below"] == below and seen[-1].worst == share
    assert not hard.record.get("found") and hard.record["hardened"]["stopped"] == "no new prompt was confirmed"


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_families_that_nobody_can_draw_here_are_hardened_without_pictures(family: str, tmp_path: Path) -> None:
    model = editkit.open_model(save(family, tmp_path / "model"))
    words = ["mosque", "castle", "a", "house", "dog", "red"]
    edit = editkit.erase(
        model, ["church"], options=editkit.Options("uce", protect="prior"), vocabulary=words, checked=False
    )
    search = PromptSearch(engine="genetic", population=16, generations=2, best=4, words=2)
    hard = harden(edit, model, rounds=1, pictures=0, below=0.9, searches=1, search=search, vocabulary=words)
    assert hard.record["hardened"]["rounds"][0]["worst"] >= 0 and {*hard.maps} == {*edit.maps}


def test_losses_are_those_of_the_search(trumpet: Edit) -> None:
    model = editkit.open_model("emoji")
    arena = Arena(model, trumpet, None, None, Sampling(4, 3.0), ())
    target = Target.of("trumpet", model.profile, ["a {}"])
    for distance in ("pos", "set"):
        search = PromptSearch(distance=distance, form="words", engine="genetic", population=32, generations=2, best=4)
        proposals = search.attack(arena, target)
        losses = search.losses(arena, target, [str(each.prompt) for each in proposals])
        assert losses == pytest.approx([each.loss for each in proposals], rel=0.02)
    near, far = PromptSearch().losses(arena.of(None), target, ["a trumpet", ""])
    assert near < 1e-3 and far == pytest.approx(1, rel=0.05)


def test_who_interrupts_has_the_best_edit_so_far(trumpet: Edit) -> None:
    def interrupt(done: Round) -> None:
        raise KeyboardInterrupt

    kept = harden(trumpet, "emoji", pictures=1, searches=1, search=SEARCH, tell=interrupt, vocabulary=WORDS, steps=4)
    assert kept.record["hardened"]["stopped"] == "interrupted" and len(kept.record["hardened"]["rounds"]) == 1
    assert torch.equal(kept.map.dense(), trumpet.map.dense())


def test_what_cannot_be_made_again_is_refused(trumpet: Edit, tmp_path: Path) -> None:
    scaled = Edit({"*": trumpet.map.scale(0.5)}, trumpet.record)
    with pytest.raises(EditkitError, match="not what its record makes again"):
        harden(scaled, "emoji", vocabulary=WORDS)
    with pytest.raises(EditkitError, match="the edit's record has no 'guides'"):
        harden(Edit(trumpet.maps, {k: v for k, v in trumpet.record.items() if k != "guides"}), "emoji")
    with pytest.raises(EditkitError, match="--give-up zeppelin: is no protected word"):
        harden(trumpet, "emoji", give_up=["zeppelin"], vocabulary=WORDS)
    with pytest.raises(EditkitError, match="--goal must lie between 0 and 1"):
        harden(trumpet, "emoji", goal=0)
    save_edit(trumpet, tmp_path / "a.safetensors")
    said = run("harden", "a.safetensors", "--out", "a.safetensors", cwd=tmp_path, code=1)
    assert "a.safetensors exists and is not overwritten unasked" in said


def test_the_command_writes_a_hardened_edit(trumpet: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a search that is smaller than the command's own."""
    monkeypatch.setattr("editkit.redteam.harden.PromptSearch", partial(PromptSearch, population=48, generations=3))
    save_edit(trumpet, tmp_path / "a.safetensors")
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    words = ("--rounds", "1", "--pictures", "1", "--searches", "1", "--per-round", "2", "--json")
    words += ("--vocabulary", "words.txt")
    record = json.loads(run("harden", "a.safetensors", "--out", "b.safetensors", *words, cwd=tmp_path))
    assert record["hardened"]["rounds"] and load_edit(tmp_path / "b.safetensors").record["method"] == "uce"
