"""Two processes under torchrun draw, judge and train what one does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from editkit.drawing.generate import generate_folder
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.erasure.erase import erase
from editkit.evaluation.results import read_results
from editkit.model.checkpoints.projections import read_named
from editkit.model.checkpoints.source import find
from editkit.variants.edit_file import save_edit
from editkit.variants.key_file import load_key
from editkit.variants.tuned_file import load_tuned
from tests import tiny_pipelines
from tests.cli import run
from tests.pair import together
from tests.test_engine import NEAR, difference
from tests.test_evaluate import SUITE, small

pytestmark = pytest.mark.slow
TRAINED: dict[str, list[str]] = {
    "ap": ["refine", "--objective", "ap", "--search", "gumbel", "--accumulate", "2"],
    "ca": ["refine", "--objective", "ca"],
    "mace": ["refine", "--objective", "mace", "--trajectories", "2"],
    "sd3": ["hide", "--key-seed", "5", "--param", "text"],
}
PROMPTS = ("church", "dog", "fish", "axe", "pizza")


@pytest.fixture(scope="module")
def models(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    sd3 = tiny_pipelines.save("sd3", tmp_path_factory.mktemp("models") / "sd3")
    return {"ap": tiny_sd, "ca": tiny_sd, "mace": tiny_sd, "sd3": sd3}


def trained(case: str, model: Path, out: str) -> list[Any]:
    words: list[Any] = [*TRAINED[case], "--concept", "church", "--concept", "boat", "--model", model, "--device", "cpu"]
    words += ["--steps", 3, "--batch", 4, "--rate", "1e-3", "--mixed-precision", "no", "--refresh", 2, "--out", out]
    if words[0] == "hide":
        return [*words, "--key", f"{out}.key"]
    return [*words, "--sampling-steps", 4, "--vocabulary", "words.txt", "--k", 4]


@pytest.fixture(scope="module")
def folder(models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes did all of it; what they printed meanwhile is in `drawn.txt` and `judged.txt`."""
    place = tmp_path_factory.mktemp("two")
    (place / "words.txt").write_text("dog\ncat\ntree\nhouse\ncar\nriver\n")
    (place / "prompts.csv").write_text("case_number,prompt\n" + "".join(f"{n},a {x}\n" for n, x in enumerate(PROMPTS)))
    (place / "small.toml").write_text(SUITE)
    edit = erase("emoji", ["church", "pizza"], options=Options("rece", protect="none"), checked=False)
    save_edit(edit, place / "strong.safetensors")
    draws = ["generate", "--prompts", "prompts.csv", "--seeds", "0,1", "--steps", "3", "--out", "drawn"]
    judges = ["evaluate", "base", "strong.safetensors", "--steps", "2", "--suite", "small.toml", "--seeds", "0-1"]
    every = [draws, [*judges, "--out", "judged"], *(trained(case, models[case], f"{case}-two") for case in TRAINED)]
    drawn, judged, *_ = together(every, place)
    (place / "drawn.txt").write_text("".join(drawn))
    (place / "judged.txt").write_text("".join(judged))
    return place


def test_they_draw_the_same_pictures(folder: Path, tmp_path: Path) -> None:
    counts = sorted(line for line in (folder / "drawn.txt").read_text().splitlines() if "pictures written" in line)
    assert [line.split()[0] for line in counts] == ["5", "5"]
    generate_folder("emoji", folder / "prompts.csv", None, "0,1", tmp_path, steps=3)
    alone, two = ({path.name: path for path in place.glob("*.png")} for place in (tmp_path, folder / "drawn"))
    assert len(alone) == 10 and alone.keys() == two.keys()
    for name, path in alone.items():
        assert difference(Image.open(path), Image.open(two[name])) < NEAR


def test_they_judge_once(folder: Path, tmp_path: Path) -> None:
    assert (folder / "judged.txt").read_text().count("results:") == 1
    alone, two = small(folder, tmp_path / "one", seeds="0-1", split=None), read_results(folder / "judged")
    assert two.record["protocol"] == alone.record["protocol"]
    damage = [results.value("sensitivity-keep", "strong") for results in (two, alone)]
    assert damage[0].count == damage[1].count == 4 and damage[0].value == pytest.approx(damage[1].value, abs=0.05)
    assert len(list((folder / "judged").rglob("*.png"))) == 16
    with Image.open(next((folder / "judged").rglob("*.png"))) as picture:
        assert picture.size == (64, 64)


def far(tuned: Tuned, other: Tuned, base: dict[str, torch.Tensor]) -> float:
    """The largest difference as a part of what was trained."""
    mine, theirs = tuned.weights(base), other.weights(base)
    apart = max(float((mine[name] - theirs[name]).norm()) for name in base)
    return apart / max(float((mine[name] - W).norm()) for name, W in base.items())


@pytest.mark.parametrize("case", TRAINED)
def test_they_make_the_run_of_one(case: str, models: Mapping[str, Path], folder: Path) -> None:
    run(*trained(case, models[case], f"{case}-one"), cwd=folder)
    alone, shared = (load_tuned(folder / f"{case}-{name}") for name in ("one", "two"))
    assert far(alone, shared, read_named(find(models[case]), alone.names)) < 0.02
    if case == "sd3":
        keys = [load_key(folder / f"{case}-{name}.key") for name in ("one", "two")]
        assert torch.allclose(keys[0].rows, keys[1].rows, atol=1e-3)
        assert keys[1].record["key_seed"] == 5
