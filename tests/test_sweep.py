"""Sweeps: what can be asked for, and that the edits made are those asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.report.prompts import prompts_about
from editkit.report.sweep import parse_sweep, settings_of, sweep_report
from editkit.variants.edit_file import load_edit
from tests.cli import run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=0..3", ("epochs", [0, 1, 2, 3])),
        ("lamb=0.01, 0.1,1", ("lamb", [0.01, 0.1, 1.0])),
        ("--preserve-scale=1,2", ("preserve_scale", [1.0, 2.0])),
        ("protect=none,minimax", ("protect", ["none", "minimax"])),
        ("joint=true,false", ("joint", [True, False])),
        ("rounds=2,2,4", ("rounds", [2, 4])),
    ],
)
def test_sweeps(text: str, expected: Any) -> None:
    parsed = parse_sweep(text)
    assert parsed == expected and [type(value) for value in parsed[1]] == [type(value) for value in expected[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epochs",
            r"expected OPTION=VALUES such as epochs=0\.\.5 or lamb=0\.01,0\.1,1, got 'epochs'; options: method, prot",
        ),
        ("epochs=", "expected OPTION=VALUES"),
        ("lambda=1,2", "no option 'lambda'; did you mean lamb. options: method, protect, tokens, layers"),
        ("colour=1,2", "no option 'colour'; options: method"),
        ("lamb=0..1", r"lamb has no whole steps; list its values, as in lamb=0\.01,0\.1,1"),
        ("lamb=0.1,low", "--sweep lamb: expected a number, got 'low'"),
        ("lamb=0.1,,1", "--sweep lamb: expected a number, got ''"),
        ("epochs=1.5,2", "--sweep epochs: expected a whole number, got '1.5'"),
        ("epochs=5..0", r"epochs=5\.\.0 runs backwards; write epochs=0\.\.5"),
        ("epochs=a..3", r"expected whole numbers as in epochs=0\.\.5, got 'a\.\.3'"),
        ("protect=none,some", "--sweep protect: must be one of minimax, prior, null, none, but got 'some'"),
        ("joint=maybe", "--sweep joint: expected true or false, got 'maybe'"),
    ],
)
def test_malformed_sweeps_are_named(text: str, message: str) -> None:
    with pytest.raises(EditkitError, match=message):
        parse_sweep(text)


def test_combinations() -> None:
    settings = settings_of(["epochs=0..1", "lamb=0.1,1", "reg=0.5"], "rece", "none")
    assert [name for name, _ in settings] == [f"epochs={e}, lamb={la}" for e in (0, 1) for la in ("0.1", "1")]
    assert settings[1][1] == Options("rece", protect="none", epochs=0, lamb=1.0, reg=0.5)
    by_method = settings_of(["method=uce,rece"])
    assert [options for _, options in by_method] == [Options("uce"), Options("rece")], "each with its own defaults"
    with pytest.raises(EditkitError, match="expected 2 to 40 combinations of values, got 1"):
        settings_of(["epochs=1"])
    with pytest.raises(EditkitError, match="expected 2 to 40 combinations of values, got 41"):
        settings_of(["epochs=0..1000000000"])
    with pytest.raises(EditkitError, match="epochs is given twice"):
        settings_of(["epochs=0..1", "epochs=3"])
    with pytest.raises(EditkitError, match="--lamb: expected a finite number of at least 0"):
        settings_of(["lamb=-1,1"])


def test_prompts_about_a_concept() -> None:
    prompts = prompts_about(open_model("emoji"), ["church"])
    assert prompts[0] == "a church" and len(prompts) == len(set(prompts)) == 8 and "a house" in prompts[1:5]


@pytest.mark.slow
def test_sweep_report(tmp_path: Path) -> None:
    """The edits are kept, the curve has a point for each, and a setting that breaks the checkpoint is told of."""
    out = tmp_path / "out"
    made = sweep_report(
        "emoji", ["church"], ["lamb=0,0.1,1"], out, method="uce", protect="none",
        prompts=["a church", "a dog"], seeds="0-1", steps=2,
    )  # fmt: skip
    assert [variant.name for variant in made.variants] == ["base", "lamb=0.1", "lamb=1"]
    assert sorted(path.name for path in (out / "edits").iterdir()) == ["lamb=0.1.safetensors", "lamb=1.safetensors"]
    kept = load_edit(out / "edits" / "lamb=1.safetensors")
    assert kept.record["options"]["lamb"] == 1.0
    html = (out / "index.html").read_text()
    assert "Erasure against damage" in html and "By the judge" in html
    assert "lamb=0 was refused: " in html
    assert "--sweep lamb=0,0.1,1" in html and "The labels are the values of lamb." in html
    saved = json.loads((out / "report.json").read_text())
    stronger, weaker = (variant["record"]["figures"] for variant in saved["variants"][1:])
    assert stronger["erasure_residual"] < weaker["erasure_residual"]
    assert stronger["damage_mean"] > weaker["damage_mean"]


def test_nothing_is_left_of_a_sweep_that_fails(tmp_path: Path) -> None:
    broken = ["method=uce", "protect=none", "lamb=0", "erase-scale=1,2"]
    with pytest.raises(EditkitError, match="no setting gives an edit; erase_scale=1 was refused: "):
        sweep_report("emoji", ["church"], broken, tmp_path / "o")
    words = ["compare", "--concept", "church", "--out", "o", "--sweep"]
    said = run(*words, "epoch=1..3", cwd=tmp_path, code=1)
    assert "did you mean epochs?" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
