"""The lines that users type first, one after another in an empty folder, as they stand."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from editkit.variants.here import edits_in
from tests.cli import run, run_apart
from tests.ldm import TOKENIZER, save_folder, save_single_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, and then the edit of the first line in it."""
    folder = tmp_path_factory.mktemp("first")
    for words in (["compare"], ["refine", "--adversarial"]):
        said = run(*words, cwd=folder, code=1)
        assert "no edit for model emoji in this folder; make one with `editkit erase --concept church" in said
    run_apart("erase", "--concept", "church", "--method", "rece", cwd=folder)
    return folder


def test_compare_takes_every_edit_of_the_folder_and_prompts_about_them(folder: Path) -> None:
    said = run("compare", "--steps", "1", "--seeds", "0", cwd=folder)
    assert said == "report: report/index.html\n"
    report = json.loads((folder / "report" / "report.json").read_text())
    assert [variant["name"] for variant in report["variants"]] == ["base", "church-rece"]
    assert report["prompts"][0] == "a church" and len(set(report["prompts"])) == 8


def test_refine_takes_the_newest_edit_and_says_which(folder: Path) -> None:
    said = run("refine", "--adversarial", "--plan", cwd=folder, errors=True)
    assert said.startswith("starting from church-rece.safetensors, the newest edit here\nplanned memory")
    assert not (folder / "church-ap").exists()


def test_edits_are_listed_from_the_newest(folder: Path, tmp_path: Path) -> None:
    for seconds, name in enumerate(("b", "c", "a")):
        path = Path(shutil.copy(folder / "church-rece.safetensors", tmp_path / f"{name}.sft"))
        os.utime(path, (seconds, seconds))
    (tmp_path / "weights.safetensors").write_bytes(b"no edit")
    assert [path.stem for path in edits_in(tmp_path)] == ["a", "c", "b"]


def test_edits_for_another_model_are_left_out_and_said(folder: Path, tiny_sd: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "church-rece.safetensors", tmp_path)
    said = run("compare", "--model", tiny_sd, cwd=tmp_path, code=1)
    assert f"no edit for model {tiny_sd} in this folder (church-rece.safetensors: for another)" in said


def test_checkpoints_of_this_machine_are_named_and_not_taken(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cache" / "hub" / "models--org--drawn" / "snapshots" / "1"
    save_folder("sd1", cached)
    other = tmp_path / "cache" / "hub" / "models--org--text" / "snapshots" / "1"
    other.mkdir(parents=True)
    (other / "model_index.json").write_text('{"_class_name": "SomethingElse"}')
    checkpoints = tmp_path / "ComfyUI" / "models" / "checkpoints"
    save_single_file("sd1", cached, checkpoints / "my model.safetensors")
    (checkpoints / "broken.safetensors").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    said = run_apart("erase", "--concept", "nudity", "--method", "rece", cwd=tmp_path, code=1)  # HF_HOME is read once
    file = shlex.quote(str(checkpoints / "my model.safetensors"))
    assert said.endswith(f"give --model DIR; on this machine are --model org/drawn, --model {file}\n")
    assert "never learned the word 'nudity'" in said and said.count("\n") == 1
    (tmp_path / "words.txt").write_text("a\nthe\nmosque\n")
    line = ["erase", "--concept", "nudity", "--method", "rece", "--model", str(checkpoints / "my model.safetensors")]
    taken = run(*line, "--tokenizer", TOKENIZER, "--vocabulary", "words.txt", "--unchecked", cwd=tmp_path)
    assert "nudity" in taken
