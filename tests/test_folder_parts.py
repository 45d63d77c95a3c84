"""Folders as people have them: every component has its own files, and what is not there is called what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import editkit
from editkit.errors import EditkitError
from editkit.files.header import other_content, read_header
from editkit.files.text.decoding import open_text
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from tests import ldm

OPTIONS = editkit.Options(protect="none")
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ldm.save_folder("sd1", tmp_path_factory.mktemp("parts") / "tiny")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


def weights(folder: Path, component: str) -> Path:
    return folder / component / f"{WEIGHTS[component]}.safetensors"


def variant(folder: Path, component: str) -> None:
    """The component as `fp16` alone."""
    path = weights(folder, component)
    path.rename(path.with_name(f"{WEIGHTS[component]}.fp16.safetensors"))


def shards(folder: Path, component: str, name: str) -> None:
    """The component as two fp16 shards; `name` says where the variant stands in their names."""
    path = weights(folder, component)
    tensors = load_file(path)
    halves = [dict(list(tensors.items())[n::2]) for n in (0, 1)]
    names = [name.format(stem=WEIGHTS[component], shard=f"-0000{n}-of-00002") for n in (1, 2)]
    for half, file in zip(halves, names, strict=True):
        save_file(half, path.with_name(file), {"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {key: file for half, file in zip(halves, names, strict=True) for key in half},
    }
    path.with_name(f"{WEIGHTS[component]}.safetensors.index.fp16.json").write_text(json.dumps(index))
    path.unlink()


def edit_index(folder: Path, **entries: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def stock(folder: Path, **how: Any) -> Any:
    return diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True, **how)


def same(pipe: Any, other: Any) -> bool:
    parts = ("unet", "vae", "text_encoder")
    states = [(getattr(pipe, part).state_dict(), getattr(other, part).state_dict()) for part in parts]
    return all(mine[name].equal(theirs[name]) for mine, theirs in states for name in theirs)


CHANGES: dict[str, Callable[[Path], None]] = {
    "text encoder": lambda folder: variant(folder, "text_encoder"),
    "vae": lambda folder: variant(folder, "vae"),
    "unet": lambda folder: variant(folder, "unet"),
    "old shards": lambda folder: shards(folder, "text_encoder", "{stem}{shard}.fp16.safetensors"),
    "new shards": lambda folder: shards(folder, "text_encoder", "{stem}.fp16{shard}.safetensors"),
    "old shards of the unet": lambda folder: shards(folder, "unet", "{stem}{shard}.fp16.safetensors"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_component_that_alone_has_a_variant_is_read_as_stock_does(
    change: Callable[[Path], None], original: Path, folder: Path, tmp_path: Path
) -> None:
    change(folder)
    expected = stock(folder, variant="fp16")
    assert same(editkit.load(folder), expected)
    model, other = open_model(folder), open_model(original)
    assert (
        model.text_encoder_sha256 == other.text_encoder_sha256 and model.projections_sha256 == other.projections_sha256
    )
    edit = editkit.erase(model, ["church"], ["dog"], options=OPTIONS, checked=False)
    done = editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert done.variant == "fp16" and done.left_out == ()
    with editkit.applied(expected, edit) as edited:
        assert same(stock(tmp_path / "out", variant="fp16"), edited)


def test_missing_shards_are_named_as_missing(folder: Path) -> None:
    shards(folder, "text_encoder", "{stem}{shard}.fp16.safetensors")
    (folder / "text_encoder" / "model-00002-of-00002.fp16.safetensors").unlink()
    with pytest.raises(EditkitError, match=r"expected the shards that it names, \['model-00002-of-00002.fp16.saf.*\]"):
        _ = open_model(folder).encoders


def test_a_refiner_is_called_one(tmp_path: Path) -> None:
    folder = ldm.save_folder("sdxl", tmp_path / "refiner")
    for component in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / component)
    edit_index(folder, text_encoder=[None, None], tokenizer=[None, None])
    with pytest.raises(EditkitError, match=r"has no to.*, as its model_index.json says: an SDXL refiner, .*edit the"):
        _ = open_model(folder).encoders


@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2"])
def test_flux_without_encoders_is_called_that(component: str, tmp_path: Path) -> None:
    from tests import tiny_pipelines

    folder = tiny_pipelines.save("flux1", tmp_path / "flux")
    shutil.rmtree(folder / component)
    edit_index(folder, **{component: [None, None]})
    with pytest.raises(EditkitError) as raised:
        _ = open_model(folder).encoders
    assert f"has no {component}, as its model_index.json says: it was saved without it" in str(raised.value)
    assert "again" not in str(raised.value)


def test_a_pipeline_without_a_denoiser_is_called_that(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    with pytest.raises(EditkitError, match=r"unet: expected a config.json in it, found none; fetch it"):
        _ = find(folder).family
    edit_index(folder, unet=[None, None])
    with pytest.raises(EditkitError, match=r"expected a unet or a transformer, but its model_index.json names neither"):
        _ = find(folder).family


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167536\n"
CONTENTS: dict[str, tuple[bytes, str]] = {
    "pointer": (POINTER, r"a git-lfs pointer, a note of where the content lies; run `git lfs pull`"),
    "page": (
        b"\n<!DOCTYPE html>\n<html><body>Access to this model is restricted",
        r"a web page \(HTML\), saved in place of",
    ),
    "nothing": (b"", r"it is empty; fetch it again"),
    "zip": (b"PK\x03\x04\x00\x00\x08\x08", r"a pickle of torch.save, .* whatever its name says; convert it to safet"),
    "pickle": (b"\x80\x02}q\x00(X\x05", r"a pickle; it is one of torch.save, which can run code when loaded"),
    "archive": (b"\x1f\x8b\x08\x00\x00", r"it is compressed \(gzip\); unpack it first"),
    "json": (b'{"error": "Repository not found"}', r"it is JSON text; give the weights that it belongs to"),
    "noise": (bytes(range(128, 200)), r"its first bytes are those of no known format"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_stands_in_place_of_weights_is_named(content: str, folder: Path, tmp_path: Path) -> None:
    written, said = CONTENTS[content]
    for path in (weights(folder, "unet"), tmp_path / "alone.safetensors", tmp_path / "alone.sft"):
        path.write_bytes(written)
    for make in (
        lambda: open_model(folder).projections,
        lambda: find(tmp_path / "alone.safetensors"),
        lambda: find(tmp_path / "alone.sft"),
        lambda: editkit.load_edit(tmp_path / "alone.safetensors"),
        lambda: editkit.load(folder),
    ):
        with pytest.raises(EditkitError, match=said) as raised:
            make()
        assert "truncated" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
@pytest.mark.parametrize("content", ["pointer", "page", "nothing"])
def test_what_stands_in_place_of_json_is_named(content: str, name: str, folder: Path) -> None:
    (folder / name).write_bytes(CONTENTS[content][0])
    with pytest.raises(EditkitError, match=rf"{name}: expected JSON, but .*{CONTENTS[content][1]}"):
        _ = find(folder).family


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x10380])
def test_a_header_whose_length_looks_like_the_start_of_a_pickle_is_no_pickle(length: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entries = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    path.write_bytes(length.to_bytes(8, "little") + json.dumps(entries).ljust(length).encode() + bytes(4))
    assert other_content(path) is None and read_header(path).tensors["w"].start == 8 + length
    with pytest.raises(EditkitError, match=r"this is model weights \(safetensors\)"), open_text(path):
        pass


def test_truncated_is_said_of_what_is_too_short_alone(folder: Path, tmp_path: Path) -> None:
    whole = weights(folder, "unet").read_bytes()
    cases = {whole[:-1]: "it is truncated, fetch it again", whole[:2000]: "header alone says .*; it is truncated",
             whole + b"more": "something was added"}  # fmt: skip
    for content, said in cases.items():
        (tmp_path / "cut.safetensors").write_bytes(content)
        with pytest.raises(EditkitError, match=said) as raised:
            read_header(tmp_path / "cut.safetensors")
        assert ("it is truncated" in str(raised.value)) == ("truncated" in said)


def with_pickled_checker(folder: Path) -> bytes:
    checker = folder / "safety_checker"
    checker.mkdir()
    (checker / "config.json").write_text('{"model_type": "clip"}')
    (checker / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    edit_index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    return (folder / "model_index.json").read_bytes()


def test_a_pickled_safety_checker_does_not_stop_an_export(original: Path, folder: Path, tmp_path: Path) -> None:
    index = with_pickled_checker(folder)
    model = open_model(folder)
    edit = editkit.erase(model, ["church"], ["dog"], options=OPTIONS, checked=False)
    done = editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert len(done.left_out) == 1
    assert done.left_out[0].startswith("safety_checker (null in the new model_index.json: ")
    assert "pytorch_model.bin: expected safetensors, this is a pickle" in done.left_out[0]
    assert not (tmp_path / "out" / "safety_checker").exists()
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["safety_checker"] == [None, None]
    assert (folder / "model_index.json").read_bytes() == index
    with editkit.applied(stock(original), edit) as edited:
        assert same(stock(tmp_path / "out"), edited)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle": (lambda path: path.rename(path.with_suffix(".bin")), "expected safetensors, this is a pickle"),
    "missing": (lambda path: path.unlink(), r"found only config.json; the weights are missing, fetch them"),
    "no folder": (lambda path: shutil.rmtree(path.parent), r"found no folder of that name; the weights are missing"),
    "pointer": (lambda path: path.write_bytes(POINTER), "a git-lfs pointer"),
    "another name": (
        lambda path: path.rename(path.with_name("vae.safetensors")),
        "expected a name that diffusers",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_export_that_stock_could_not_load_is_refused_before_it_is_written(
    how: str, folder: Path, tmp_path: Path
) -> None:
    model = open_model(folder)
    edit = editkit.erase(model, ["church"], ["dog"], options=OPTIONS, checked=False)
    change, said = BROKEN[how]
    change(weights(folder, "vae"))
    with pytest.raises(EditkitError, match=said):
        editkit.export(edit, model, tmp_path / "out", "diffusers")
    assert not (tmp_path / "out").exists()


def test_the_short_ending_is_taken_everywhere(original: Path, tmp_path: Path) -> None:
    file = ldm.save_single_file("sd1", original, tmp_path / "model.safetensors")
    short = file.rename(file.with_suffix(".sft"))
    model = open_model(short, ldm.TOKENIZER)
    edit = editkit.erase(model, ["church"], ["dog"], options=OPTIONS, checked=False)
    editkit.save_edit(edit, tmp_path / "church.sft")
    edit = editkit.load_edit(tmp_path / "church.sft")
    editkit.export(edit, model, tmp_path / "out.sft", "single-file")
    edited = open_model(tmp_path / "out.sft", ldm.TOKENIZER).projections
    assert all(weight.equal(edited[name]) for name, weight in edit.weights(model.projections).items())


OTHER_NAMES = {
    "StableDiffusionPipelineSafe": {},
    "StableDiffusionPAGPipeline": {"image_encoder": [None, None]},
    "StableDiffusionInstructPix2PixPipeline": {},
    "StableDiffusionControlNetPipeline": {"controlnet": ["diffusers", "ControlNetModel"]},
    "StableDiffusionImg2ImgPipeline": {},
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_pipeline_of_another_name_and_the_same_parts_is_edited(name: str, original: Path, folder: Path) -> None:
    edit_index(folder, _class_name=name, **OTHER_NAMES[name])
    mine, theirs = (
        editkit.erase(open_model(path), ["church"], ["dog"], options=OPTIONS, checked=False)
        for path in (folder, original)
    )
    assert find(folder).family.name == "sd1"
    assert mine.map.U.equal(theirs.map.U) and mine.map.V.equal(theirs.map.V)


def test_an_edit_is_applied_to_a_stock_pipeline_of_another_name(original: Path) -> None:
    pipe = stock(original)
    edit = editkit.erase(open_model(original), ["church"], ["dog"], options=OPTIONS, checked=False)
    other = diffusers.StableDiffusionPAGPipeline(**pipe.components, requires_safety_checker=False)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    before = pipe.unet.state_dict()[name].clone()
    with editkit.applied(other, edit):
        torch.testing.assert_close(other.unet.state_dict()[name], edit.map.weight(before))


@pytest.mark.parametrize(
    ("index", "config", "said"),
    [
        ({"text_encoder": ["alt", "RobertaSeriesModel"]}, {}, "its text_encoder is RobertaSeriesModel, expected CLIPT"),
        ({}, {"attention_type": "gated"}, "reads phrases in gated attention, too, .* there is no fixed key"),
        ({}, {"encoder_hid_dim_type": "ip_image_proj"}, "projects text or pictures before its attention reads them"),
        ({}, {"class_embed_type": "projection"}, "also reads embeddings of a picture"),
        ({}, {"addition_embed_type": "image"}, "adds embeddings of the kind image, expected None"),
    ],
)
def test_where_the_rules_do_not_hold_the_reason_is_said(
    index: dict[str, Any], config: dict[str, Any], said: str, folder: Path
) -> None:
    edit_index(folder, _class_name="StableDiffusionOtherPipeline", **index)
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(EditkitError, match=rf"'StableDiffusionOtherPipeline': not a supported family: .*{said}"):
        _ = find(folder).family


def test_an_edit_of_what_is_no_text_projection_is_refused_with_the_reason(original: Path, tmp_path: Path) -> None:
    model = open_model(original)
    edit = editkit.erase(model, ["church"], ["dog"], options=OPTIONS, checked=False)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    wrong = editkit.Edit({name: edit.map}, edit.record)
    said = rf"Stable Diffusion 1.x: {name} cannot be edited in closed form: .* there is no fixed key; edit .*attn2"
    with pytest.raises(EditkitError, match=said):
        editkit.export(wrong, model, tmp_path / "out.safetensors")
    with pytest.raises(EditkitError, match=said):
        editkit.applied(stock(original), wrong).__enter__()
