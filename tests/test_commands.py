"""The command line as a user types it, on the bundled model and on a tiny Stable Diffusion folder."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from editkit.model.editable import open_model
from tests.cli import run, run_apart


@pytest.fixture(scope="module")
def church(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first command of the README."""
    folder = tmp_path_factory.mktemp("church")
    said = run_apart("erase", "--concept", "church", "--method", "rece", cwd=folder)
    assert "model emoji" in said and "church → average" in said
    return folder / "church-rece.safetensors"


@pytest.mark.parametrize("words", [["--help"], ["families"], ["info", "church"]])
def test_looking_needs_no_torch(words: list[str], church: Path) -> None:
    words = [str(church) if word == "church" else word for word in words]
    probe = (
        "import sys; from editkit_cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe, *words], env={**os.environ, "PYTHONPATH": "cli:."}, check=False)
    assert done.returncode == 0


def test_literature_commands(tiny_sd: Path, tmp_path: Path) -> None:
    artists = ["erase", "--model", tiny_sd, "--concept", "van gogh", "--concept", "picasso", "--guide", "art"]
    artists += ["--preserve", "monet", "--protect", "none", "--method", "uce", "--tokens", "last", "--lamb", "0.5"]
    run(*artists, "--erase-scale", "1", "--preserve-scale", "1", "--out", "art.safetensors", cwd=tmp_path)
    nudity = [
        "erase",
        "--model",
        tiny_sd,
        "--concept",
        "nudity",
        "--guide",
        " ",
        "--preserve",
        " ",
        "--protect",
        "none",
    ]
    nudity += ["--method", "rece", "--tokens", "all", "--lamb", "0.1", "--preserve-scale", "0.1", "--reg", "0.1"]
    run(*nudity, "--epochs", "3", "--out", "nudity.safetensors", cwd=tmp_path)
    record = json.loads(run("info", "nudity.safetensors", "--json", cwd=tmp_path))
    assert record["options"]["epochs"] == 3 and record["options"]["tokens"] == "all"
    assert record["figures"]["erasure_residual"] < 1


def test_edit_and_export(tiny_sd: Path, tmp_path: Path) -> None:
    time_edit = ["edit", "a red rose", "a blue rose", "--method", "time", "--model", tiny_sd]
    run(*time_edit, "--out", "e.safetensors", cwd=tmp_path)
    run("export", "e.safetensors", "--model", tiny_sd, "--format", "kv", "--out", "kv.safetensors", cwd=tmp_path)
    edited, original = load_file(tmp_path / "kv.safetensors"), open_model(tiny_sd).projections
    assert edited.keys() == original.keys()
    assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in edited)
    assert all(not edited[name].equal(original[name]) for name in edited)


def test_generate_and_compare(church: Path, tmp_path: Path) -> None:
    run("generate", "--prompt", "a church", "--seeds", "0-3", "--steps", "2", "--out", "grid.png", cwd=tmp_path)
    (tmp_path / "file.csv").write_text("case_number,prompt,evaluation_seed\n7,a church,3\n9,a dog,\n")
    folder = ["generate", "--prompts", "file.csv", "--edit", church, "--seeds", "1-2", "--steps", "2", "--out", "d"]
    assert "3 pictures" in run(*folder, cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "d").glob("*.png")) == ["7_3.png", "9_1.png", "9_2.png"]
    assert "0 pictures" in run(*folder, cwd=tmp_path)
    prompts = ["--prompt", "a church", "--prompt", "a mosque", "--seeds", "0-1", "--steps", "2"]
    run("compare", "base", church, *prompts, "--out", "ab.png", cwd=tmp_path)
    assert Image.open(tmp_path / "ab.png").size[1] > 4 * 128


def test_models_json(tmp_path: Path) -> None:
    (emoji,) = json.loads(run("models", "--json", cwd=tmp_path))
    assert emoji["name"] == "emoji"
    assert {"church", "parachute", "fuel pump", "kitchen knife"} <= set(emoji["concepts"])
    assert len(emoji["concepts"]) >= 200 and len(emoji["styles"]) >= 3 and len(emoji["backgrounds"]) == 8
    assert len(emoji["roles"]) >= 15 and "dagger" in emoji["hypernyms"]["weapon"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--concept", "nudity"], "never learned the word 'nudity'"),
        (["--concept", "chruch"], "did you mean church"),
        (["--concept", " "], "a concept is empty"),
        (["--concept", "church", "--concept", "Church "], "concept 'Church ' is named twice"),
        ([], "no concept given"),
        (["--concept", "church", "--guide", "church", "--protect", "none"], "is its own guide"),
        (["--concept", "church", "--preserve", "church"], "both erased and preserved"),
        (["--concept", "church", "--lamb", "0", "--protect", "none", "--tokens", "last"], "--lamb"),
        (["--concept", "church", "--concept", "dog", "--guide", "a", "--guide", "b", "--guide", "c"], "3 guides"),
        (
            ["--concept", "church", "--method", "magic"],
            "method 'magic': known are cure, dp, oce, rece, speed, time, uce",
        ),
        (["--concept", "church", "--model", "nowhere"], "no such folder"),
        (["--concept", "church", "--lamb", "-1"], "--lamb: expected a finite number"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str, tmp_path: Path) -> None:
    said = run("erase", *words, cwd=tmp_path, code=1)
    assert message in said and said.startswith("error: ") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_named(tiny_sd: Path, church: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no model_index.json" in run("erase", "--concept", "a", "--model", empty, cwd=tmp_path, code=1)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_sd, broken)
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "truncated" in run("erase", "--concept", "a", "--model", broken, cwd=tmp_path, code=1)
    weights.rename(weights.with_suffix(".bin"))
    assert "a pickle" in run("erase", "--concept", "a", "--model", broken, cwd=tmp_path, code=1)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(church.read_bytes()[:100])
    assert "truncated" in run("info", cut, cwd=tmp_path, code=1)
    other = next((tiny_sd / "unet").glob("*.safetensors"))
    assert "not an edit" in run("info", other, cwd=tmp_path, code=1)
    assert "width 512" in run("export", church, "--model", tiny_sd, "--out", "x.safetensors", cwd=tmp_path, code=1)


def test_nothing_is_overwritten_unasked(church: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    out.write_text("precious")
    words = ["erase", "--concept", "dog", "--out", out]
    assert "exists and is not overwritten" in run(*words, cwd=tmp_path, code=1)
    assert "no edit file" in run(*words, "--force", cwd=tmp_path, code=1)
    assert out.read_text() == "precious"
    shutil.copy(church, out)
    run(*words, "--force", cwd=tmp_path)
    assert "dog" in run("info", out, cwd=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in run("erase", "--concept", "dog", "--out", closed / "e", cwd=tmp_path, code=1)


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    run("generate", "--out", "x.png", cwd=tmp_path, code=2)
    run("erase", "--no-such-option", cwd=tmp_path, code=2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["families"], 0),
        (["erase", "--concept", "chruch"], 1),
        (["compose", "none.safetensors", "--out", "x.safetensors"], 1),
        (["erase", "--no-such-option"], 2),
    ],
)
def test_a_process_of_its_own_says_the_same(words: list[str], code: int, tmp_path: Path) -> None:
    """What other tests run in theirs."""
    assert run_apart(*words, cwd=tmp_path, code=code) == run(*words, cwd=tmp_path, code=code)
