"""A package that is installed beside editkit brings one plug-in of every group: each is used from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import editkit
from editkit.plugins import GROUPS
from tests.cli import run

PACKAGE = Path(__file__).parent / "foreign"
POINTS = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
PLUG_INS = {group.removeprefix("editkit."): next(iter(points)) for group, points in POINTS.items()}
"""Group → the name of its plug-in."""
FEW = ("--steps", "2")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages into which pip has installed the foreign one."""
    base = tmp_path_factory.mktemp("foreign")
    shutil.copytree(PACKAGE, base / "source", ignore=shutil.ignore_patterns("__pycache__"))
    alone = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    words = [sys.executable, "-m", "pip", "install", *alone, "--target", base / "site", base / "source"]
    subprocess.run(words, check=True, capture_output=True)
    return base / "site"


@pytest.fixture(autouse=True)
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edit") / "church.safetensors"
    model = editkit.open_model("emoji")
    editkit.save_edit(editkit.erase(model, ["church"], options=editkit.Options("uce", protect="prior")), path)
    return path


@pytest.fixture
def negative(tmp_path: Path) -> Path:
    """The bundled model as one of the foreign family."""
    folder = tmp_path / "negative"
    shutil.copytree(editkit.open_model("emoji").source.path, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "NegativePipeline"}))
    return folder


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def test_there_is_one_of_every_group() -> None:
    assert {*PLUG_INS} == {*GROUPS}


@pytest.mark.parametrize("group", [group for group in PLUG_INS if group != "families"])
def test_it_is_listed_with_its_options_and_its_package(group: str, tmp_path: Path) -> None:
    listed = {component["name"]: component for component in json.loads(run(group, "--json", cwd=tmp_path))}
    mine = listed[PLUG_INS[group]]
    assert mine["origin"] == "editkit-foreign" and mine["summary"]
    assert all(component["origin"] == "editkit" for name, component in listed.items() if name != PLUG_INS[group])


def test_the_table_says_whence_it_is(tmp_path: Path) -> None:
    said = run("metrics", cwd=tmp_path)
    assert "brightness-LEVEL  from editkit-foreign" in said and "level  float, to be given  From 0 to 1." in said


def test_an_attack_is_made_with_its_option(edit: Path, tmp_path: Path) -> None:
    words = ("attack", edit, "--attack", "shrug", "--left", "0.25", "--pictures", "0", "--json")
    line, _ = json.loads(run(*words, cwd=tmp_path))["lines"]
    assert (line["attack"], line["protocol"], line["loss"]) == ("shrug", "agnostic", 0.25)


def test_a_method_has_its_flag_and_its_record(tmp_path: Path) -> None:
    words = ("erase", "--concept", "church", "--protect", "prior", "--vocabulary", "words.txt")
    (tmp_path / "words.txt").write_text("dog\npizza\ncat\n")
    run(*words, "--method", "uce", "--out", "whole.safetensors", cwd=tmp_path)
    run(*words, "--method", "partway", "--part", "0.25", "--out", "part.safetensors", cwd=tmp_path)
    whole, part = (editkit.load_edit(tmp_path / f"{name}.safetensors") for name in ("whole", "part"))
    assert isinstance(whole, editkit.Edit) and isinstance(part, editkit.Edit)
    assert np.allclose(part.map.scale(4).dense(), whole.map.dense(), atol=1e-5)
    assert part.record["method"] == "partway" and part.record["options"]["part"] == 0.25
    said = run(*words, "--method", "partway", "--part", "0", "--out", "none.safetensors", cwd=tmp_path, code=1)
    assert "--part: expected a finite number above 0, got 0" in said


def test_a_guard_guides(tmp_path: Path) -> None:
    words = ("generate", "--prompt", "a dog", "--seeds", "0", *FEW)
    run(*words, "--guidance", "4", "--guard", "half", "--out", "half.png", cwd=tmp_path)
    run(*words, "--guidance", "2", "--out", "two.png", cwd=tmp_path)
    assert np.abs(drawn(tmp_path / "half.png") - drawn(tmp_path / "two.png")).mean() < 1
    run(*words, "--guidance", "4", "--out", "four.png", cwd=tmp_path)
    assert np.abs(drawn(tmp_path / "half.png") - drawn(tmp_path / "four.png")).mean() > 3


def test_an_objective_and_a_search_train(tmp_path: Path) -> None:
    words = ("--sampling-steps", "2", "--batch", "1", "--k", "3", "--mixed-precision", "no", "--out", "run")
    run(
        "refine",
        "--concept",
        "church",
        "--objective",
        "halfway",
        "--search",
        "in-turn",
        "--turn",
        "2",
        *words,
        cwd=tmp_path,
    )
    record = editkit.load_edit(tmp_path / "run" / "tuned.safetensors").record
    options = record["options"]
    assert (options["objective"], options["search"], options["turn"], options["steps"]) == ("halfway", "in-turn", 2, 2)


def test_a_metric_counts_what_a_detector_saw(edit: Path, tmp_path: Path) -> None:
    suite = """
        name = "light"
        about = "How bright are churches?"
        detector = "light-meter"
        metrics = ["brightness-0.5", "brightness-0"]
        seeds = "0-1"
        classes = ["church", "dog"]
        templates = ["a {}"]
        role = "keep"
    """
    (tmp_path / "light.toml").write_text(suite)
    run("evaluate", "base", edit, "--suite", "light.toml", "--out", "out", *FEW, cwd=tmp_path)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for variant in ("base", "church"):
        pictures = sorted((tmp_path / "out" / "pictures" / variant).glob("*.png"))
        bright = [drawn(path).mean() / 255 > 0.5 for path in pictures]
        value = results["metrics"]["brightness-0.5"]["variants"][variant]["all"]
        assert len(bright) == value["count"] == 4 and value["value"] == sum(bright) / 4
        assert results["metrics"]["brightness-0"]["variants"][variant]["all"]["value"] == 1
    assert results["protocol"]["detector"] == "light-meter-1.0"


def test_a_format_is_written_with_its_option(edit: Path, tmp_path: Path) -> None:
    run("export", edit, "--format", "npz", "--precision", "float16", "--out", "church.npz", cwd=tmp_path)
    model, variant = editkit.open_model("emoji"), editkit.load_edit(edit)
    expected = variant.weights(model.tensors(variant))
    with np.load(tmp_path / "church.npz") as arrays:
        assert {*arrays.files} == {*expected}
        for name, weight in expected.items():
            assert arrays[name].dtype == np.float16
            assert np.array_equal(arrays[name], weight.float().numpy().astype("float16"))
    said = run("export", edit, "--format", "kv", "--precision", "float16", "--out", "x", cwd=tmp_path, code=1)
    assert "--precision" in said and "kv" in said


def test_a_family_is_edited_and_its_kind_of_pipeline_draws(negative: Path, tmp_path: Path) -> None:
    assert "Negative Diffusion" in run("families", "--json", cwd=tmp_path)
    erase = ("erase", "--model", negative, "--concept", "church", "--method", "partway", "--protect", "none")
    run(*erase, "--unchecked", "--out", "church.safetensors", cwd=tmp_path)
    (tmp_path / "prompts.csv").write_text("case_number,prompt,evaluation_seed\n0,a church,7\n")
    words = ("--prompts", "prompts.csv", *FEW, "--guidance", "3", "--size", "64x64", "--scheduler", "ddim")
    run("generate", "--model", "emoji", *words, "--out", "emoji", cwd=tmp_path)
    run("generate", "--model", negative, *words, "--out", "theirs", cwd=tmp_path)
    run("generate", "--model", negative, "--edit", "church.safetensors", *words, "--out", "edited", cwd=tmp_path)
    emoji, theirs, edited = (drawn(tmp_path / name / "0_7.png") for name in ("emoji", "theirs", "edited"))
    assert np.abs(theirs - (255 - emoji)).mean() < 2 < np.abs(theirs - emoji).mean()  # another order of channels rounds
    assert np.abs(edited - theirs).max() > 10


def test_a_name_that_is_taken_and_one_that_nobody_has(site: Path, tmp_path: Path) -> None:
    said = run("erase", "--concept", "church", "--method", "partwy", "--out", "x.safetensors", cwd=tmp_path, code=1)
    assert "method 'partwy': did you mean partway? known are cure, dp, oce, partway, rece, speed, time, uce" in said
    again = tmp_path / "again-1.0.dist-info"
    again.mkdir()
    (again / "METADATA").write_text("Metadata-Version: 2.1\nName: again\nVersion: 1.0\n")
    (again / "entry_points.txt").write_text("[editkit.formats]\nkv = again:Format\nlost = again:Format\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        said = run("formats", cwd=tmp_path)
    assert "cannot be loaded: format 'kv': again:Format takes the name of one that editkit has; rename it" in said
    assert "cannot be loaded: format 'lost': again:Format cannot be imported: No module named 'again'" in said


def test_its_kind_of_stage_runs_in_a_recipe(tmp_path: Path) -> None:
    text = """
[stage.gone]
do = "erase"
concepts = ["church"]
method = "uce"
protect = "none"
[stage.told]
do = "note"
edits = ["base", "gone"]
words = "two"
"""
    (tmp_path / "chain.toml").write_text(text)
    run("run", "chain.toml", "--model", "emoji", "--out", "made", cwd=tmp_path)
    assert (tmp_path / "made" / "told" / "note.txt").read_text().split() == [
        "two", "base", str(Path("made", "gone", "gone.safetensors"))
    ]  # fmt: skip
