"""What `--model` takes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source, find


def test_names_folders_and_the_environment(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("emoji").profile.name == "emoji" and find(None) == find("emoji")
    monkeypatch.setenv("EDITKIT_MODEL", str(tiny_sd))
    assert find(None) == Source(str(tiny_sd), tiny_sd)
    assert find("emoji").profile.name == "emoji" and find(None).profile.name == "default"
    assert find(None).family.name == "sd1"


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".bin", ".pth"])
def test_a_pickle_is_refused_unopened(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(EditkitError, match="a pickle, which can run code when loaded; convert it"):
        find(path)


def test_a_hub_id_that_is_not_cached_names_the_variable(tmp_path: Path) -> None:
    code = "from editkit.model.checkpoints.source import find; find('nobody/no-such-model')"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "nobody/no-such-model" in done.stderr and "unset HF_HUB_OFFLINE to allow downloads" in done.stderr


def test_a_hub_id_is_read_from_the_cache(tiny_sd: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("c" * 40)).symlink_to(tiny_sd)
    code = "from editkit import open_model; m = open_model('org/tiny'); print(len(m.projections), m.encoder.width)"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.split() == ["8", "256"], done.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"_class_name": "SomethingElse"}'])
def test_a_broken_index_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(content)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(EditkitError, match=r"model_index.json|SomethingElse|found neither"):
        _ = find(tmp_path).family


def test_missing_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(EditkitError, match=r"one\.safetensors"):
        Source("x", tmp_path).weights("unet")


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(EditkitError, match=r"expected a \.safetensors checkpoint or a folder, got '\.txt'"):
        find(path)
    with pytest.raises(EditkitError, match="no such folder or file"):
        find("nowhere")
