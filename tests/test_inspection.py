"""What differs most between two models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import noise
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.model.pipeline import load
from editkit.redteam.inspection import Latents, Predictor, _latents, inspect
from editkit.variants.edit_file import save_edit
from editkit.variants.export import export
from tests.cli import run

WORDS = ["dog", "church", "pizza", "car", "boat"]


@pytest.fixture(scope="module")
def edit(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = editkit.erase(
        open_model(tiny_sd), ["church"], [" "], options=Options("uce", protect="none"), vocabulary=WORDS, checked=False
    )
    path = tmp_path_factory.mktemp("edits") / "church.safetensors"
    save_edit(made, path)
    return path


def test_scores_are_those_of_the_equation(tiny_sd: Path, edit: Path) -> None:
    """Eq. 19, one pass a word and a latent."""
    base, changed = open_denoiser(find(tiny_sd)), load(tiny_sd)
    changed.unet.load_state_dict(_exported(tiny_sd, edit), strict=False)
    latents = _latents(Predictor(find(tiny_sd), base), [3, 4], 3)
    assert latents.z.shape == (6, 4, 8, 8) and latents.t.tolist() == sorted(latents.t.tolist(), reverse=True)

    @torch.no_grad()
    def passed(pipe: object, text: str, point: int) -> torch.Tensor:
        ids = pipe.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt").input_ids  # pyright: ignore
        states = pipe.text_encoder(ids)[0]  # pyright: ignore
        return pipe.unet(latents.z[[point]], latents.t[[point]], states).sample.double()  # pyright: ignore

    def square(first: torch.Tensor, other: torch.Tensor) -> float:
        return float(((first - other) ** 2).sum())

    for concept in (None, "church"):
        differences = inspect("base", str(edit), WORDS, str(tiny_sd), concept, 0.3, [3, 4], 3)
        assert sorted(row.word for row in differences) == sorted(WORDS)
        assert [row.score for row in differences] == sorted((row.score for row in differences), reverse=True)
        for row in differences:
            text, change, far, effect = f"a {row.word}", 0.0, 0.0, 0.0
            for point in range(6):
                here = passed(base.pipe, text, point)
                change += square(passed(changed, text, point), here) / 6
                far += square(passed(changed, "a church", point), here) / 6
                effect += square(here, passed(base.pipe, "", point)) / 6
            assert row.change == pytest.approx(change, rel=1e-3)
            assert row.relative == pytest.approx(change / effect, rel=1e-3)
            assert row.distance == (None if concept is None else pytest.approx(far, rel=1e-3))
            assert row.score == pytest.approx(change if concept is None else far + 0.3 * change, rel=1e-3)


def _exported(tiny_sd: Path, edit: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    out = edit.with_name("kv.safetensors")
    export(editkit.load_edit(edit), open_model(tiny_sd), out, force=True)
    return load_file(out)


def test_latents_start_from_the_noise_of_their_seed(tiny_sd: Path) -> None:
    latents = _latents(Predictor(find(tiny_sd), open_denoiser(find(tiny_sd))), [5, 6], 2)
    assert isinstance(latents, Latents) and latents.z[1].equal(noise((4, 8, 8), 6))


def test_batches_and_order_do_not_matter(tiny_sd: Path, edit: Path) -> None:
    first = inspect("base", str(edit), WORDS, str(tiny_sd), seeds=[0], batch=3)
    second = inspect("base", str(edit), WORDS[::-1], str(tiny_sd), seeds=[0], batch=64)
    assert [row.word for row in first] == [row.word for row in second]
    assert [row.change for row in first] == pytest.approx([row.change for row in second], rel=1e-3)


def test_a_model_does_not_differ_from_itself_and_a_folder_is_the_edit_in_it(
    tiny_sd: Path, edit: Path, tmp_path: Path
) -> None:
    export(editkit.load_edit(edit), open_model(tiny_sd), tmp_path / "folder", "diffusers")
    same = inspect(str(edit), str(tmp_path / "folder"), WORDS, str(tiny_sd), seeds=[0], points=1)
    assert max(row.relative for row in same) < 1e-6
    there = inspect(str(tiny_sd), str(edit), WORDS, str(tiny_sd), seeds=[0], points=1)
    back = inspect(str(edit), "base", WORDS, str(tiny_sd), seeds=[0], points=1)
    assert all(row.change > 1e-6 for row in there) and there[0].word == back[0].word == "church"


def test_models_with_other_latents_are_refused(tiny_sd: Path) -> None:
    with pytest.raises(EditkitError, match=r"its network has in_channels 16, that of .* has 4; only models with"):
        inspect(str(tiny_sd), "emoji", WORDS)
    with pytest.raises(EditkitError, match="--points: expected at least one seed, and 1 to 20 points, got 0"):
        inspect("base", "base", WORDS, str(tiny_sd), points=0)


@pytest.mark.slow
def test_the_erased_concept_is_on_top(tmp_path: Path) -> None:
    """On the bundled model, among words near and far."""
    run("erase", "--concept", "church", "--out", "e.safetensors", cwd=tmp_path)
    words = ["dog", "castle", "mosque", "church", "pizza", "apple", "car", "star"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    said = ["inspect", "base", "e.safetensors", "--vocabulary", "words.txt", "--seeds", "0", "--device", "cpu"]
    differences = json.loads(run(*said, "--json", "--out", "d.csv", cwd=tmp_path))
    assert differences[0]["word"] == "church" and differences[0]["change"] > 3 * differences[1]["change"]
    with (tmp_path / "d.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["word"] for row in rows] == [row["word"] for row in differences] and rows[0]["rank"] == "1"
    assert "exists and is not overwritten" in run(*said, "--out", "d.csv", cwd=tmp_path, code=1)
