"""Nothing that a user has is lost, whatever the flags."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import editkit
from editkit.drawing.prompt_file import parse_seeds, read_prompts
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source, find
from editkit.model.editable import open_model
from editkit.variants.edit_file import save_edit
from tests import ldm
from tests.cli import run


def made(folder: Path) -> editkit.Edit:
    options = Options("uce", protect="none", tokens="all", lamb=0.01)
    return editkit.erase(open_model(folder), ["church"], ["a dog"], options=options, checked=False)


def test_a_checkpoint_is_not_replaced_by_an_edit(tiny_sd: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(2)}, weights)
    before = weights.read_bytes()
    with pytest.raises(EditkitError, match="no edit file: --force replaces edit files alone"):
        save_edit(made(tiny_sd), weights, force=True)
    said = run("erase", "--concept", "dog", "--out", weights, "--force", cwd=tmp_path, code=1)
    assert "no edit file" in said and weights.read_bytes() == before


def test_the_model_itself_is_not_exported_over(tiny_sd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd, folder)
    checkpoint = tmp_path / "one.safetensors"
    ldm.save_single_file("sd1", ldm.save_folder("sd1", tmp_path / "sd1"), checkpoint)
    single = open_model(checkpoint, tmp_path / "sd1" / "tokenizer")
    options = Options("uce", protect="none", tokens="all", lamb=0.01)
    of_file = editkit.erase(single, ["church"], ["a dog"], options=options, checked=False)
    unet = next((folder / "unet").glob("*.safetensors"))
    for edit, model, out, format in (
        (of_file, single, checkpoint, "single-file"),
        (made(folder), open_model(folder), unet, "kv"),
        (made(folder), open_model(folder), folder, "diffusers"),
    ):
        before = checkpoint.read_bytes(), unet.read_bytes()
        with pytest.raises(EditkitError, match="is the model itself, or lies in its folder"):
            editkit.export(edit, model, out, format, force=True)
        assert (checkpoint.read_bytes(), unet.read_bytes()) == before


def test_a_strangers_file_beside_an_old_pipeline_stays(tiny_sd: Path, tmp_path: Path) -> None:
    editkit.export(made(tiny_sd), open_model(tiny_sd), tmp_path / "out", "diffusers")
    editkit.export(made(tiny_sd), open_model(tiny_sd), tmp_path / "out", "diffusers", force=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(EditkitError, match=r"holds notes\.txt"):
        editkit.export(made(tiny_sd), open_model(tiny_sd), tmp_path / "out", "diffusers", force=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_moving_averages_are_edited_too(tmp_path: Path) -> None:
    folder = ldm.save_folder("sd1", tmp_path / "sd1")
    checkpoint = tmp_path / "ema.safetensors"
    ldm.save_single_file("sd1", folder, checkpoint)
    prefix = "model.diffusion_model."
    tensors = load_file(checkpoint)
    averages = {
        f"model_ema.diffusion_model{name.removeprefix(prefix).replace('.', '')}": value.clone()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    save_file(tensors | averages, checkpoint)
    model = open_model(checkpoint, folder / "tokenizer")
    edit = made(folder)
    editkit.export(edit, model, tmp_path / "out.safetensors", "single-file")
    edited = load_file(tmp_path / "out.safetensors")
    changed = [name for name, value in (tensors | averages).items() if not torch.equal(edited[name], value)]
    assert len(changed) == 2 * len(model.projections)
    for name in changed:
        if name.startswith(prefix):
            assert torch.equal(
                edited[name], edited[f"model_ema.diffusion_model{name.removeprefix(prefix).replace('.', '')}"]
            )


@pytest.mark.parametrize("variant", ["fp16", None])
def test_a_folder_of_variants_is_read(variant: str | None, tiny_sd: Path, tmp_path: Path) -> None:
    pipe = editkit.load(tiny_sd)
    pipe.save_pretrained(tmp_path / "v", variant=variant)
    source = find(tmp_path / "v")
    assert source.variant("unet") == variant and source.variant("text_encoder") == variant
    assert made(tmp_path / "v").record["text_encoder_sha256"] == open_model(tiny_sd).text_encoder_sha256
    assert editkit.load(tmp_path / "v").unet.dtype == torch.float32


def test_the_full_weights_go_before_a_variant(tmp_path: Path) -> None:
    unet = tmp_path / "unet"
    unet.mkdir()
    (unet / "a.safetensors.index.json").write_text('{"weight_map": {"x": "a-00001-of-00001.safetensors"}}')
    (unet / "a.safetensors.index.fp16.json").write_text('{"weight_map": {"x": "a.fp16-00001-of-00001.safetensors"}}')
    for name in ("a-00001-of-00001.safetensors", "a.fp16-00001-of-00001.safetensors"):
        (unet / name).write_bytes(b"")
    source = Source("m", tmp_path)
    assert [path.name for path in source.weights("unet")] == ["a-00001-of-00001.safetensors"]
    assert source.variant("unet") is None
    (unet / "a.safetensors.index.json").unlink()
    assert source.variant("unet") == "fp16"


def test_a_half_precision_copy_is_the_same_model(tiny_sd: Path, tmp_path: Path) -> None:
    pipe = editkit.load(tiny_sd)
    for part in (pipe.unet, pipe.text_encoder):
        part.half()
    pipe.save_pretrained(tmp_path / "half")
    whole, other = open_model(tiny_sd), open_model(tmp_path / "half")
    assert (
        whole.text_encoder_sha256 == other.text_encoder_sha256 and whole.projections_sha256 == other.projections_sha256
    )
    editkit.export(made(tiny_sd), other, tmp_path / "kv.safetensors")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("../x,a dog,1", "must name a file"),
        ("1,a dog,1\n1,a cat,1", "names another prompt"),
        ("1,a dog,-4", "a seed from 0"),
    ],
)
def test_prompt_files_cannot_write_elsewhere(rows: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"case_number,prompt,seed\n{rows}\n")
    with pytest.raises(EditkitError, match=said):
        read_prompts(path)


@pytest.mark.parametrize("seeds", ["99999999999999999999", "0-9999999999", "-3"])
def test_seeds_have_bounds(seeds: str) -> None:
    with pytest.raises(EditkitError, match="--seeds"):
        parse_seeds(seeds)


def test_bad_words_on_the_command_line(tiny_sd: Path, tmp_path: Path) -> None:
    long = "a church " * 40
    erase = ["erase", "--model", tiny_sd, "--protect", "none"]
    assert "tokens, but this text encoder reads" in run(*erase, "--concept", long, cwd=tmp_path, code=1)
    assert "--expand: must be one of" in run(*erase, "--concept", "a", "--expand", "foo", cwd=tmp_path, code=1)
    assert "--tokenizer" in run(*erase, "--concept", "a", "--tokenizer", tmp_path, cwd=tmp_path, code=1)
    assert "this folder is empty" in run("info", tmp_path, cwd=tmp_path, code=1)
    (tmp_path / "notes.md").write_text("hello there, this is not a tensor file")
    said = run("info", "notes.md", cwd=tmp_path, code=1)
    assert "notes.md: expected an edit file, but its first bytes are those of no known format" in said
    draw = ["generate", "--prompt", "a church", "--out", "x.png"]
    assert "--device nowhere" in run(*draw, "--device", "nowhere", cwd=tmp_path, code=1)
    assert "--steps: expected at most" in run(*draw, "--steps", "2000", cwd=tmp_path, code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.md"]
