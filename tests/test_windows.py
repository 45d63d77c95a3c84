"""How much of a prompt is read: what the text encoder's weights have positions for, and no more than its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import editkit
from editkit.drawing.pipelines import denoiser_of
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import Job, draw
from editkit.drawing.sampling import Sampling
from editkit.drawing.truncation import count_truncated
from editkit.edits.method import Options
from editkit.erasure.words import read_vocabulary
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.model.pipeline import load
from tests import tiny_pipelines

POSITIONS = 24
LONG = " ".join(["church"] * 40)
LIMITS = {"none": None, "too long": 512, "of transformers": int(1e30), "senseless": -1, "shorter": 16}
WINDOWS = {name: 16 if name == "shorter" else POSITIONS for name in LIMITS}


def with_limit(folder: Path, out: Path, limit: int | None) -> Path:
    """A copy of `folder`, the settings of whose tokenizers state another limit, or none."""
    shutil.copytree(folder, out)
    for path in out.glob("tokenizer*/tokenizer_config.json"):
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": limit}
        path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return out


@pytest.mark.parametrize("stated", LIMITS)
def test_an_edit_reads_the_window(stated: str, tiny_sd: Path, tmp_path: Path) -> None:
    model, as_saved = open_model(with_limit(tiny_sd, tmp_path / "model", LIMITS[stated])), open_model(tiny_sd)
    assert model.encoder.length == WINDOWS[stated]
    options = Options("uce", protect="none", tokens="last")
    edits = [editkit.erase(opened, ["church"], [" "], options=options, checked=False) for opened in (model, as_saved)]
    assert torch.equal(edits[0].map.U, edits[1].map.U) and torch.equal(edits[0].map.V, edits[1].map.V)
    with pytest.raises(EditkitError, match=f"42 tokens, but this text encoder reads {WINDOWS[stated]}; shorten it"):
        model.encoder.encode([LONG])


@pytest.mark.parametrize("stated", LIMITS)
@torch.no_grad()
def test_a_pipeline_draws_and_counts_by_the_window(stated: str, tiny_sd: Path, tmp_path: Path) -> None:
    """Rows are those of the stock pipeline whose tokenizer states the window."""
    pipe = load(with_limit(tiny_sd, tmp_path / "model", LIMITS[stated]))
    stock: Any = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    stock.tokenizer.model_max_length = WINDOWS[stated]
    prompts = ["a church", LONG, ""]
    expected = stock.encode_prompt(prompts, "cpu", 1, False)[0]
    assert expected.shape[1] == WINDOWS[stated]
    assert torch.equal(Condition.joined(denoiser_of(pipe).encode(prompts)[0]).text, expected)
    assert torch.equal(pipe.encode_prompt(prompts, "cpu", 1, False)[0], expected)
    assert len(list(draw(denoiser_of(pipe), [Job(LONG, 0)], sampling=Sampling(steps=1)))) == 1
    with pytest.warns(UserWarning, match=f"longer than the {WINDOWS[stated]} tokens of the text encoder: 1"):
        assert count_truncated(denoiser_of(pipe), prompts) == 1


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux1"])
@pytest.mark.parametrize("stated", ["none", "too long"])
def test_several_encoders_without_a_limit_read_what_they_did(stated: str, family: str, tmp_path: Path) -> None:
    saved = tiny_pipelines.save(family, tmp_path / "saved")
    changed = open_model(with_limit(saved, tmp_path / "changed", LIMITS[stated]))
    for stream, encoders in open_model(saved).encoders.items():
        for before, after in zip(encoders, changed.encoders[stream], strict=True):
            assert after.length == before.length
            assert torch.equal(*(encoder.encode(["a church"])[0] for encoder in (before, after)))


def test_a_pooled_vector_is_that_of_a_prompt_cut_at_the_window(tmp_path: Path) -> None:
    saved = tiny_pipelines.save("flux1", tmp_path / "saved")
    prompt = " ".join(["church"] * 30)
    before, after = (
        open_model(folder).encoders["pooled"][0]
        for folder in (saved, with_limit(saved, tmp_path / "changed", LIMITS["none"]))
    )
    assert torch.equal(*(encoder.states([prompt], [1], False) for encoder in (before, after)))


def test_the_tokenizer_says_which_words_it_knows(tiny_sd: Path) -> None:
    words = read_vocabulary(open_model(tiny_sd), "tokens")
    assert words is not None and "church" in words and len(words) == len(set(words)) > 100


def test_a_token_that_the_encoder_does_not_know_is_named(inverted_sd: Path, tiny_sd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd, folder)
    shutil.copytree(inverted_sd / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    encoder = open_model(folder).encoder
    assert len(encoder.encode(["a church"])) == 1
    with pytest.raises(EditkitError, match="knows 1,406 tokens, but its tokenizer gives number 1,408; the two do not"):
        encoder.encode(["<cat-toy>"])
