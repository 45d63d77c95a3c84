"""Families with several text streams: rows as the stock pipelines encode them, one map a stream, one edit file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import editkit
from editkit.edits.method import Options
from editkit.embeddings.clip_text import ClipText
from editkit.erasure.rows import average_of, concept_rows
from editkit.model.apply import network_of
from editkit.model.editable import EditableModel, open_model
from tests import tiny_pipelines
from tests.tiny_pipelines import WORDS

FAMILIES = ("sdxl", "sd3", "flux1")
KINDS = {"sdxl": "StableDiffusionXLPipeline", "sd3": "StableDiffusion3Pipeline", "flux1": "FluxPipeline"}
PICKED = {"sdxl": (0, 2), "sd3": (0, 2), "flux1": (0, 1)}
"""Where `encode_prompt` returns token rows and pooled vector."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("streams")
    return {family: tiny_pipelines.save(family, base / family) for family in FAMILIES}


def stock(family: str, folder: Path) -> Any:
    pipe = getattr(diffusers, KINDS[family]).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe: Any, prompt: str = "a church") -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    how: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "np"}
    if type(pipe).__name__ == "FluxPipeline":
        how |= {"height": 16, "width": 16}
    return pipe(prompt, generator=generator, **how).images[0]


def unprotected(model: EditableModel, **more: Any) -> editkit.Edit:
    options = Options("uce", protect="none", tokens="all", lamb=1e-3)
    return editkit.erase(model, ["a church"], ["a dog"], options=options, checked=False, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_the_stock_pipeline(family: str, folders: dict[str, Path]) -> None:
    pipe, model = stock(family, folders[family]), open_model(folders[family])
    for prompt in ("a church", "a photo of a dog on the church"):
        how = {"device": "cpu"} if family == "flux1" else {"device": "cpu", "do_classifier_free_guidance": False}
        encoded = (
            pipe.encode_prompt(prompt, None, **how)
            if family != "sd3"
            else pipe.encode_prompt(prompt, None, None, **how)
        )
        for stream, index in zip(("text", "pooled"), PICKED[family], strict=True):
            mine = torch.cat([encoder.encode([prompt])[0] for encoder in model.encoders[stream]])
            theirs = encoded[index][0].reshape(mine.shape).double()
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_a_prompt_whose_rows_were_run_has_its_pooled_vector_from_the_same_run(
    family: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["a church", "a dog", ""]
    alone = [encoder.encode(prompts) for encoder in open_model(folders[family]).encoders["pooled"]]
    model = open_model(folders[family])
    model.encoder.encode(prompts)
    with monkeypatch.context() as without:
        without.delattr(ClipText, "pooled")  # nothing is run again
        again = [encoder.encode(prompts) for encoder in model.encoders["pooled"]]
    for mine, theirs in zip(again, alone, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    fresh = model.fresh().streams[1].encoders
    assert all(
        torch.equal(row, known)
        for encoder, rows in zip(fresh, alone, strict=True)
        for row, known in zip(encoder.encode(prompts), rows, strict=True)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_one_map_for_each_stream(family: str, folders: dict[str, Path]) -> None:
    model = open_model(folders[family])
    edit = unprotected(model)
    assert len(edit.maps) == 2 and not edit.is_global
    assert all(edit.map_for(name) is not None for name in model.projections)
    assert edit.record["family"] == family and "pooled" in edit.record["figures"]
    pipe = stock(family, folders[family])
    before, wanted = picture(pipe), picture(pipe, "a dog")
    with editkit.applied(pipe, edit):
        after = picture(pipe)
    assert np.abs(after - wanted).mean() < 0.2 * np.abs(before - wanted).mean()
    assert np.array_equal(picture(pipe), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_folder_draws_what_the_edit_draws(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model, pipe = open_model(folders[family]), stock(family, folders[family])
    editkit.save_edit(unprotected(model), tmp_path / "e.safetensors")
    edit = editkit.load_edit(tmp_path / "e.safetensors")
    done = editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert done.count == len(model.projections)
    with editkit.applied(pipe, edit):
        expected = picture(pipe)
    assert np.array_equal(picture(stock(family, tmp_path / "out")), expected)
    editkit.export(edit, model, tmp_path / "kv.safetensors", "kv")
    weights = load_file(tmp_path / "kv.safetensors")
    missing, unexpected = network_of(pipe).load_state_dict(weights, strict=False)
    assert not unexpected and len(missing) == len(network_of(pipe).state_dict()) - len(weights)
    assert np.array_equal(picture(pipe), expected)


def test_sizes_and_crops_are_not_edited(folders: dict[str, Path]) -> None:
    """SDXL's `add_embedding.linear_1` reads picture sizes after the pooled vector: those columns stay, bit for bit."""
    model = open_model(folders["sdxl"])
    (pooled,) = [name for name in model.projections if name.startswith("add_embedding")]
    W = model.projections[pooled]
    edited = unprotected(model).weights({pooled: W})[pooled]
    assert W.shape[1] == 24 + 48
    assert torch.equal(edited[:, 24:], W[:, 24:]) and not torch.equal(edited[:, :24], W[:, :24])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protect", ["prior", "minimax"])
def test_protection_lowers_the_damage_of_every_stream(family: str, protect: str, folders: dict[str, Path]) -> None:
    model = open_model(folders[family])
    words = ["dog", "mosque", "photo", "picture", "a dog in the picture"]
    options = Options("uce", protect=protect, tokens="tail")
    edit = editkit.erase(model, ["church"], options=options, vocabulary=words, checked=False)
    for figures in (edit.record["figures"], edit.record["figures"]["pooled"]):
        assert figures["erasure_residual"] < 1 and 0 <= figures["damage_worst"] < 0.5


def test_without_t5_sd3_has_clip_rows_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(folders["sd3"], text_encoder_3=None, tokenizer_3=None)
    pipe.save_pretrained(tmp_path / "small")
    model = open_model(tmp_path / "small")
    assert [encoder.length for encoder in model.encoders["text"]] == [24]
    assert len(unprotected(model).maps) == 2


def test_an_edit_of_another_family_is_refused(folders: dict[str, Path]) -> None:
    edit = unprotected(open_model(folders["sd3"]))
    with pytest.raises(editkit.EditkitError, match="family sd3"):
        editkit.export(edit, open_model(folders["sdxl"]), "never.safetensors")
    with pytest.raises(editkit.EditkitError, match=r"no such projection|width"):
        editkit.applied(stock("sdxl", folders["sdxl"]), edit).__enter__()


@pytest.mark.parametrize(("short", "of_clip"), [(32, 64), (16, 8)])
def test_the_average_takes_few_prompts_that_are_long(
    short: int, of_clip: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editkit.erasure.rows.SHORT", short)
    model = open_model(folders["sd3"])
    clip, t5 = model.encoders["text"]
    seen: dict[int, int] = {}
    for encoder in (clip, t5):
        states = encoder.states

        def counted(prompts: Any, *how: Any, mine: Any = states, key: int = id(encoder)) -> Any:
            seen[key] = seen.get(key, 0) + len(prompts)
            return mine(prompts, *how)

        encoder.states = counted
    words = [f"{word} of {other}" for word in WORDS for other in WORDS][:70]
    rows = concept_rows((clip, t5), "church", average_of(words), ("{}", "a {}"), "tail")
    assert seen == {id(clip): 2 * (of_clip + 1), id(t5): 2 * (8 + 1)}
    assert rows.source.shape == rows.target.shape
