"""`editkit attack`: the attacked model is the one that is given, edited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import editkit
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.variants.edit_file import save_edit
from tests.cli import run


@pytest.fixture(scope="module")
def church() -> Edit:
    return editkit.erase("emoji", ["church"])


def test_against_the_unedited_model_it_succeeds_at_once(church: Edit) -> None:
    nothing = Edit({"*": EditMap.identity(512)}, church.record)
    (finding,) = editkit.attack(nothing, model="emoji")
    assert finding.missed == pytest.approx(finding.control) and finding.control < 0.01
    assert finding.plain == 0


def test_against_an_edit_that_maps_everything_to_nothing_it_fails(church: Edit) -> None:
    eye = torch.eye(512, dtype=torch.float64)
    (finding,) = editkit.attack(Edit({"*": EditMap(-eye, eye)}, church.record), model="emoji")
    assert finding.missed == pytest.approx(1) and finding.plain == pytest.approx(1) and finding.control < 0.01


def test_less_regularisation_never_brings_back_less(church: Edit) -> None:
    missed = [editkit.attack(church, model="emoji", attack_reg=reg)[0].missed for reg in (1.0, 1e-1, 1e-2, 1e-4)]
    assert missed == sorted(missed, reverse=True)
    assert missed[-1] < 0.5 * editkit.attack(church, model="emoji")[0].plain


def test_the_command_names_what_it_found(church: Edit, tmp_path: Path) -> None:
    save_edit(church, tmp_path / "church.safetensors")
    (finding,) = json.loads(run("attack", "church.safetensors", "--attack", "embedding", "--json", cwd=tmp_path))
    assert (finding["concept"], finding["protocol"], finding["changes"]) == ("church", "adaptive", "rows")
    assert "No picture was drawn" in run("attack", "church.safetensors", cwd=tmp_path)


def test_impossible_requests_are_named(church: Edit, tiny_sd: Path) -> None:
    with pytest.raises(EditkitError, match="attack 'embeding': did you mean embedding"):
        editkit.attack(church, attacks=["embeding"], model="emoji")
    with pytest.raises(EditkitError, match=r"--reg: attack embedding has no such option; .*its options: --attack-reg"):
        editkit.attack(church, model="emoji", reg=1)
    with pytest.raises(EditkitError, match=r"text encoder|width"):
        editkit.attack(church, model=tiny_sd)
    with pytest.raises(EditkitError, match="no attack given"):
        editkit.attack(church, attacks=[], model="emoji")
