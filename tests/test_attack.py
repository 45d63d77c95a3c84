"""`editkit attack`: the attacked model is the one that is given, edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import editkit
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.redteam.findings import Findings
from editkit.variants.edit_file import save_edit
from tests.cli import run

QUICK: dict[str, Any] = {"generations": 4, "population": 64, "restarts": 1, "search_rounds": 3, "swaps": 32, "best": 3}
"""A search that takes a second."""


@pytest.fixture(scope="module")
def church() -> Edit:
    return editkit.erase("emoji", ["church"])


@pytest.fixture(scope="module")
def nothing(church: Edit) -> Edit:
    """An edit that maps every row to nothing."""
    eye = torch.eye(512, dtype=torch.float64)
    return Edit({"*": EditMap(-eye, eye)}, church.record)


def loss(findings: Findings, variant: str = "edit") -> float:
    (line,) = [line for line in findings.lines if line.variant == variant]
    assert line.loss is not None
    return line.loss


def test_the_embedding_succeeds_at_once_against_the_unedited_model(church: Edit) -> None:
    findings = editkit.attack(Edit({"*": EditMap.identity(512)}, church.record), attacks=["embedding"], pictures=0)
    assert loss(findings) == pytest.approx(loss(findings, "base")) and loss(findings) < 0.01


def test_every_attack_on_text_fails_against_an_edit_that_maps_everything_to_nothing(nothing: Edit) -> None:
    findings = editkit.attack(
        nothing, attacks=["embedding", "prompt"], pictures=2, model="emoji", settings={"steps": 6}, **QUICK
    )
    for line in findings.lines:
        if line.variant == "edit":
            assert line.rest.value == 0 and line.before.value == 0 and line.loss == pytest.approx(1, abs=1e-3)
        else:
            assert line.attack == "prompt" or line.all.value == 1


def test_less_regularisation_never_brings_back_less(church: Edit) -> None:
    found = [
        editkit.attack(church, attacks=["embedding"], pictures=0, control=False, attack_reg=reg)
        for reg in (1.0, 1e-1, 1e-2, 1e-4)
    ]
    losses = [loss(each) for each in found]
    assert losses == sorted(losses, reverse=True)
    assert found[0].attempts[0].plain_loss is not None and losses[-1] < 0.5 * found[0].attempts[0].plain_loss


def test_the_command_names_what_it_found_and_goes_on_where_it_stopped(church: Edit, tmp_path: Path) -> None:
    save_edit(church, tmp_path / "church.safetensors")
    words = ("attack", "church.safetensors", "--attack", "embedding", "--pictures", "1", "--out", "attacks", "--json")
    found = json.loads(run(*words, cwd=tmp_path))
    assert {line["variant"] for line in found["lines"]} == {"church", "base"}
    assert (tmp_path / "attacks" / "found.csv").is_file() and (tmp_path / "attacks" / "found.parquet").is_file()
    kept = tmp_path / "attacks" / "attempts" / "church" / "embedding" / "church.json"
    before = kept.stat().st_mtime_ns
    assert json.loads(run(*words, cwd=tmp_path)) == found and kept.stat().st_mtime_ns == before
    with pytest.raises(EditkitError, match="holds another run"):
        editkit.attack(tmp_path / "church.safetensors", attacks=["embedding"], pictures=2, out=tmp_path / "attacks")
    said = run("attack", "church.safetensors", "--attack", "embedding", "--pictures", "0", cwd=tmp_path)
    assert "No picture was drawn" in said


def test_a_concept_that_the_model_never_learned_does_not_succeed(tiny_sd: Path) -> None:
    """A folder in place of an edit is a model that is attacked as it is; this one's weights are random."""
    findings = editkit.attack(
        tiny_sd, ["church"], ["prompt"], detector="emoji-judge", pictures=1, generations=1, population=16,
        engine="genetic", best=3, settings={"steps": 2},
    )  # fmt: skip
    assert [line.variant for line in findings.lines] == ["base"]
    assert findings.attempts and not any(each.success or each.was_plain for each in findings.attempts)


def test_a_model_without_its_text_encoder_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sd, tmp_path / "model", ignore=shutil.ignore_patterns("text_encoder"))
    with pytest.raises(EditkitError, match="text_encoder"):
        editkit.attack("base", ["church"], model=tmp_path / "model", pictures=0)


def test_a_judge_that_never_says_the_concept_is_refused(church: Edit, tiny_sd: Path) -> None:
    with pytest.raises(
        EditkitError, match=r"concept 'steeple': detector emoji-judge.* never says 'steeple'; near to it are"
    ):
        editkit.attack("base", ["steeple"], model=tiny_sd, detector="emoji-judge")


def test_impossible_requests_are_named(church: Edit, tiny_sd: Path, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="attack 'embeding': did you mean embedding"):
        editkit.attack(church, attacks=["embeding"], model="emoji")
    with pytest.raises(EditkitError, match=r"--reg: attack embedding has no such option; .*its options: --attack-reg"):
        editkit.attack(church, attacks=["embedding"], model="emoji", reg=1)
    with pytest.raises(EditkitError, match=r"text encoder|width"):
        editkit.attack(church, model=tiny_sd)
    with pytest.raises(EditkitError, match="no attack given"):
        editkit.attack(church, attacks=[], model="emoji")
    with pytest.raises(EditkitError, match="seconds above 0"):
        editkit.attack(church, model="emoji", budget=0)
    with pytest.raises(EditkitError, match="quick, paper or seconds"):
        editkit.attack(church, model="emoji", budget="soon")
    with pytest.raises(EditkitError, match="needs the denoiser"):
        editkit.attack(church, model="emoji", attacks=["seed-search"], pictures=0)
    with pytest.raises(EditkitError, match="never learned the word"):
        editkit.attack(church, ["zeppelin"], model="emoji")
    with pytest.raises(EditkitError, match="nothing to attack"):
        editkit.attack([], model="emoji")
    (tmp_path / "found.csv").write_text("prompt,seed\na church,1\n")
    with pytest.raises(EditkitError, match=r"found.csv: expected the columns attack, prompt"):
        editkit.attack(church, model="emoji", replay=tmp_path / "found.csv")
