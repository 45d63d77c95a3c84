"""Families whose denoiser is told which rows are padding: rows as the stock pipelines encode them, and their edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import editkit
from editkit.edit.options import defaults
from editkit.model.apply import denoiser
from editkit.model.editable import EditableModel, open_model
from tests import tiny_t5_pipelines

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


def _through(*modules: str) -> Callable[[Any, str], Tensor]:
    """The rows behind modules of the denoiser."""

    def rows(pipe: Any, prompt: str) -> Tensor:
        found = _masked(pipe, prompt)
        for name in modules:
            found = pipe.transformer.get_submodule(name)(found)
        return found

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
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("masked")
    return {name: family.save(name, base / name) for name, family in FAMILIES.items()}


def stock(name: str, folder: Path) -> Any:
    pipe = getattr(diffusers, FAMILIES[name].pipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(name: str, pipe: Any, prompt: str = "a church") -> Tensor:
    """Latents: the picture decoder has no part in an edit."""
    how = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"} | FAMILIES[name].draw
    return pipe(prompt, generator=torch.Generator().manual_seed(0), **how)[0]


def unprotected(model: EditableModel) -> editkit.Edit:
    options = defaults("uce", "none", tokens="all", lamb=1e-4)
    return editkit.erase(model, ["a church"], ["a dog"], options=options, checked=False)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_rows_are_those_of_the_stock_pipeline(name: str, folders: dict[str, Path]) -> None:
    pipe, model = stock(name, folders[name]), open_model(folders[name])
    (encoder,) = model.encoders["text"]
    together = encoder.encode(PROMPTS)
    for prompt, mine in zip(PROMPTS, together, strict=True):
        expected = FAMILIES[name].rows(pipe, prompt).double()
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    assert encoder.tokens("church")[encoder.subject_at("{}", "church")] == encoder.reader.part("church")[-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_draws_the_guide(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model, pipe = open_model(folders[name]), stock(name, folders[name])
    editkit.save_edit(unprotected(model), tmp_path / "e.safetensors")
    edit = editkit.load_edit(tmp_path / "e.safetensors")
    before, wanted = picture(name, pipe), picture(name, pipe, "a dog")
    with edit.applied(pipe):
        after = picture(name, pipe)
    assert (after - wanted).abs().mean() < 0.2 * (before - wanted).abs().mean()
    assert torch.equal(picture(name, pipe), before)
    done = editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert done.count == len(model.projections)
    assert torch.equal(picture(name, stock(name, tmp_path / "out")), after)
    editkit.export(edit, model, tmp_path / "kv.safetensors", "kv")
    _, unexpected = denoiser(pipe).load_state_dict(load_file(tmp_path / "kv.safetensors"), strict=False)
    assert not unexpected
    assert torch.equal(picture(name, pipe), after)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.lora])
def test_a_lora_loads_with_diffusers(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model, pipe = open_model(folders[name]), stock(name, folders[name])
    edit = unprotected(model)
    editkit.export(edit, model, tmp_path / "lora.safetensors", "lora")
    with edit.applied(pipe):
        expected = picture(name, pipe)
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    drawn = picture(name, pipe)
    assert (drawn - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_protection_lowers_the_damage(name: str, folders: dict[str, Path]) -> None:
    words = ["dog", "mosque", "photo", "picture", "a dog in the picture"]
    edit = editkit.erase(open_model(folders[name]), ["church"], vocabulary=words, checked=False)
    figures = edit.record["figures"]
    assert figures["erasure_residual"] < 1 and 0 <= figures["damage_worst"] < 0.5
