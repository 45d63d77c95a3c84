"""Families whose denoiser is told which rows are padding: rows as the stock pipelines encode them, and their edits."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from editkit.concepts.vocabulary import common_words, same_word
from editkit.edits.method import Options
from editkit.erasure.rows import INSTRUCTIONS, vocabulary_rows
from editkit.erasure.words import words_to_protect
from editkit.model.apply import network_of
from editkit.model.editable import EditableModel, open_model
from tests import tiny_llm_pipelines, tiny_t5_pipelines

PROMPTS = ("a church", "a photo of a dog on the church", " Dog", "")


@dataclass(frozen=True)
class Family:
    """How the stock pipeline is asked, and what of its answer the denoiser reads.

    Attributes:
        rows: pipeline and prompt → the rows that reach the projections, `(n, width)`.
        draw: arguments of a picture.
        lora: whether diffusers has a loader for it.
    """

    pipeline: str
    save: Callable[[str, Path], Path]
    rows: Callable[[Any, str], Tensor]
    draw: dict[str, Any]
    lora: bool = True


def _chroma(pipe: Any, prompt: str) -> Tensor:
    rows, _, mask, *_ = pipe.encode_prompt(prompt or " ", device="cpu", do_classifier_free_guidance=False)
    return rows[0][mask[0].bool()]


def _masked(pipe: Any, prompt: str) -> Tensor:
    rows, mask, *_ = pipe.encode_prompt(prompt or " ", device="cpu", do_classifier_free_guidance=False)
    return rows[0][mask[0].reshape(len(rows[0]), -1)[:, 0].bool()]  # AuraFlow repeats it for every column


def _wan(pipe: Any, prompt: str) -> Tensor:
    """The prompt's rows and one of the padding, which are all alike."""
    rows, _ = pipe.encode_prompt(prompt or " ", device="cpu", do_classifier_free_guidance=False)
    seen = pipe.transformer.condition_embedder.text_embedder(rows[0])
    length = int(rows[0].abs().sum(1).count_nonzero())
    assert (seen[length + 1 :] == seen[length]).all()
    return seen[: length + 1]


def _glm(pipe: Any, prompt: str) -> Tensor:
    return pipe.encode_prompt(prompt or " ", device="cpu", do_classifier_free_guidance=False)[0][0]


def _sana(pipe: Any, prompt: str) -> Tensor:
    asked = inspect.signature(pipe.__call__).parameters["complex_human_instruction"].default
    how = {"device": "cpu", "do_classifier_free_guidance": False, "complex_human_instruction": asked}
    rows, mask, *_ = pipe.encode_prompt(prompt or " ", **how)
    return pipe.transformer.caption_norm(pipe.transformer.caption_projection(rows[0][mask[0].bool()]))


def _qwenimage(pipe: Any, prompt: str) -> Tensor:
    return pipe.transformer.txt_norm(pipe.encode_prompt(prompt or " ", device="cpu")[0][0])


def _klein(pipe: Any, prompt: str) -> Tensor:
    return pipe.encode_prompt(prompt or " ", device="cpu")[0][0]


def _through(*modules: str) -> Callable[[Any, str], Tensor]:
    """The rows behind modules of the denoiser."""

    def rows(pipe: Any, prompt: str) -> Tensor:
        rows = _masked(pipe, prompt)
        for name in modules:
            rows = pipe.transformer.get_submodule(name)(rows)
        return rows

    return rows


SMALL = {"height": 16, "width": 16}
FAMILIES = {
    "chroma": Family("ChromaPipeline", tiny_t5_pipelines.save, _chroma, SMALL),
    "auraflow": Family("AuraFlowPipeline", tiny_t5_pipelines.save, _masked, SMALL),
    "pixart": Family(
        "PixArtSigmaPipeline",
        tiny_t5_pipelines.save,
        _through("caption_projection"),
        SMALL | {"use_resolution_binning": False},
        lora=False,
    ),
    "ltx": Family(
        "LTXPipeline",
        tiny_t5_pipelines.save,
        _through("caption_projection"),
        {"height": 32, "width": 32, "num_frames": 9},
    ),
    "cogview4": Family("CogView4Pipeline", tiny_llm_pipelines.save, _glm, SMALL),
    "lumina2": Family(
        "Lumina2Pipeline", tiny_llm_pipelines.save, _through("time_caption_embed.caption_embedder.0"), SMALL
    ),
    "sana": Family(
        "SanaPipeline", tiny_llm_pipelines.save, _sana, {"height": 32, "width": 32, "use_resolution_binning": False}
    ),
    "qwenimage": Family("QwenImagePipeline", tiny_llm_pipelines.save, _qwenimage, SMALL | {"guidance_scale": None}),
    "flux2": Family("Flux2KleinPipeline", tiny_llm_pipelines.save, _klein, SMALL),
    "wan": Family("WanPipeline", tiny_t5_pipelines.save, _wan, SMALL | {"num_frames": 1}),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("masked")
    return cache(lambda name: FAMILIES[name].save(name, base / name))


def stock(name: str, folder: Path) -> Any:
    pipe = getattr(diffusers, FAMILIES[name].pipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(name: str, pipe: Any, prompt: str = "a church") -> Tensor:
    """Latents: the picture decoder has no part in an edit."""
    how = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"} | FAMILIES[name].draw
    return pipe(prompt=prompt, generator=torch.Generator().manual_seed(0), **how)[0]


def unprotected(model: EditableModel) -> editkit.Edit:
    options = Options("uce", protect="none", tokens="all", lamb=1e-4)
    return editkit.erase(model, ["a church"], ["a dog"], options=options, checked=False)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_rows_are_those_of_the_stock_pipeline(name: str, folder_of: Callable[[str], Path]) -> None:
    pipe, model = stock(name, folder_of(name)), open_model(folder_of(name))
    (encoder,) = model.encoders["text"]
    together = encoder.encode(PROMPTS)
    for prompt, mine in zip(PROMPTS, together, strict=True):
        expected = FAMILIES[name].rows(pipe, prompt).double()
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    church, dog = encoder.tokens("a photo of a church"), encoder.tokens("a photo of a dog")
    differing = [at for at, (mine, other) in enumerate(zip(church, dog, strict=True)) if mine != other]
    assert differing == [encoder.subject_at("a photo of a {}", "church")] and encoder.subject_size("church") == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_draws_the_guide(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model, pipe = open_model(folder_of(name)), stock(name, folder_of(name))
    editkit.save_edit(unprotected(model), tmp_path / "e.safetensors")
    edit = editkit.load_edit(tmp_path / "e.safetensors")
    before, wanted = picture(name, pipe), picture(name, pipe, "a dog")
    with editkit.applied(pipe, edit):
        after = picture(name, pipe)
    assert (after - wanted).abs().mean() < 0.2 * (before - wanted).abs().mean()
    assert torch.equal(picture(name, pipe), before)
    done = editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert done.count == len(model.projections)
    assert torch.equal(picture(name, stock(name, tmp_path / "out")), after)
    editkit.export(edit, model, tmp_path / "kv.safetensors", "kv")
    _, unexpected = network_of(pipe).load_state_dict(load_file(tmp_path / "kv.safetensors"), strict=False)
    assert not unexpected
    assert torch.equal(picture(name, pipe), after)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.lora])
def test_a_lora_loads_with_diffusers(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model, pipe = open_model(folder_of(name)), stock(name, folder_of(name))
    edit = unprotected(model)
    editkit.export(edit, model, tmp_path / "lora.safetensors", "lora")
    with editkit.applied(pipe, edit):
        expected = picture(name, pipe)
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    drawn = picture(name, pipe)
    assert (drawn - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_protection_lowers_the_damage(name: str, folder_of: Callable[[str], Path]) -> None:
    words = ["dog", "mosque", "photo", "picture", "a dog in the picture"]
    edit = editkit.erase(open_model(folder_of(name)), ["church"], vocabulary=words, checked=False)
    figures = edit.record["figures"]
    assert figures["erasure_residual"] < 1 and 0 <= figures["damage_worst"] < 0.5


def test_a_wan_with_two_denoisers_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(folder_of("wan"), tmp_path / "two")
    shutil.copytree(folder_of("wan") / "transformer", tmp_path / "two" / "transformer_2")
    with pytest.raises(editkit.EditkitError, match="has two denoisers, and each would need a map of its own"):
        _ = open_model(tmp_path / "two").encoders


def test_instructions_that_the_denoiser_reads_are_protected(folder_of: Callable[[str], Path]) -> None:
    (encoder,) = open_model(folder_of("lumina2")).encoders["text"]
    protected = vocabulary_rows((encoder,), ["church", "dog"], ("a {}",))
    assert protected.words == ("church", "dog", INSTRUCTIONS) and [len(rows) for rows in protected.rows[:2]] == [1, 1]
    whole = encoder.encode_each(["a church"], 0)[0]
    instructions = protected.rows[2]
    assert len(instructions) == len(whole) - 3  # all but the start token, "a" and "church"
    torch.testing.assert_close(instructions, whole[1:-2], rtol=1e-4, atol=1e-5)
    (short,) = open_model(folder_of("sana")).encoders["text"]  # Sana's denoiser gets the prompt alone
    assert vocabulary_rows((short,), ["church"], ("a {}",)).words == ("church",)


@pytest.mark.parametrize(
    ("name", "pipeline", "denoiser", "title"),
    [
        ("flux2", "Flux2Pipeline", "Flux2Transformer2DModel", "FLUX.2"),
        ("hunyuandit", "HunyuanDiTPipeline", "HunyuanDiT2DModel", "HunyuanDiT"),
        ("lumina", "LuminaPipeline", "LuminaNextDiT2DModel", "Lumina-Next"),
    ],
)
def test_what_is_not_encoded_is_refused(name: str, pipeline: str, denoiser: str, title: str, tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": denoiser}))
    model = open_model(tmp_path)
    assert model.source.family.name == name
    with pytest.raises(editkit.EditkitError, match=f"{title} is known to .*, but its prompts cannot be encoded here"):
        _ = model.encoders


def test_a_missing_caption_projection_and_an_unknown_class_are_named(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(folder_of("pixart"), tmp_path / "p")
    (weights,) = (tmp_path / "p" / "transformer").glob("*.safetensors")
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("caption_projection")}
    save_file(kept, weights)
    with pytest.raises(editkit.EditkitError, match="its caption_projection is no caption projection for width 64"):
        _ = open_model(tmp_path / "p").encoders
    index = json.loads((tmp_path / "p" / "model_index.json").read_text())
    index["text_encoder"] = ["transformers", "T6EncoderModel"]
    (tmp_path / "p" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        editkit.EditkitError, match=r"class of transformers for its text_encoder, .* says transformers\.T6"
    ):
        _ = open_model(tmp_path / "p").encoders


@pytest.mark.parametrize(("name", "slow"), [("chroma", False), ("ltx", True), ("lumina2", True), ("cogview4", False)])
def test_fewer_words_are_protected_where_each_is_dear(
    name: str, slow: bool, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding or instructions are run along with every word."""
    model = open_model(folder_of(name))
    monkeypatch.setattr("editkit.erasure.words.FEW", 10_000)  # how near they are is not the question here
    words = words_to_protect(model, ["church"], [])
    assert words == [word for word in common_words()[:: 10 if slow else 1] if not same_word(word, "church")]
