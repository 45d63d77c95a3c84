"""Single-file checkpoints: the key map, the tensors and text encoders read of them, and what is refused."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from editkit.embeddings.clip_bpe import clip_tokenizer
from editkit.errors import EditkitError
from editkit.model.checkpoints import numbers
from editkit.model.checkpoints.ldm_names import POOLED, ldm_family, to_diffusers, to_ldm
from editkit.model.checkpoints.single_file import read_family, read_projections_ldm, read_text_encoders, used_layers
from tests import ldm

FAMILIES = ("sd1", "sd2", "sdxl")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny-folders")
    return {family: ldm.save_folder(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def checkpoints(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny-files")
    return {
        family: ldm.save_single_file(family, folders[family], root / f"{family}.safetensors") for family in FAMILIES
    }


def stock(family: str, file: Path, folder: Path) -> Any:
    import diffusers

    return getattr(diffusers, ldm.NAMES[family]).from_single_file(str(file), config=str(folder), local_files_only=True)


def projections(folder: Path) -> dict[str, Tensor]:
    wanted = (".attn2.to_k.weight", ".attn2.to_v.weight")
    return {
        name: tensor for name, tensor in ldm.state(folder, "unet").items() if name.endswith(wanted) or name == POOLED
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_diffusers_reads_the_files_of_these_tests(
    family: str, folders: dict[str, Path], checkpoints: dict[str, Path]
) -> None:
    pipe = stock(family, checkpoints[family], folders[family])
    for component in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else [])):
        loaded, saved = getattr(pipe, component).state_dict(), ldm.state(folders[family], component)
        assert loaded.keys() == saved.keys()
        assert all(loaded[name].equal(tensor) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("family", "diffusers_name", "ldm_name"),
    [
        ("sd1", "down_blocks.0.attentions.0", "input_blocks.1.1"),
        ("sd1", "down_blocks.2.attentions.1", "input_blocks.8.1"),
        ("sd2", "mid_block.attentions.0", "middle_block.1"),
        ("sd2", "up_blocks.1.attentions.0", "output_blocks.3.1"),
        ("sd1", "up_blocks.3.attentions.2", "output_blocks.11.1"),
        ("sdxl", "down_blocks.1.attentions.0", "input_blocks.4.1"),
        ("sdxl", "up_blocks.0.attentions.2", "output_blocks.2.1"),
        ("sdxl", "up_blocks.1.attentions.2", "output_blocks.5.1"),
    ],
)
def test_known_names(family: str, diffusers_name: str, ldm_name: str) -> None:
    for reader in ("transformer_blocks.0.attn2.to_k.weight", "transformer_blocks.9.attn2.to_v.weight"):
        assert to_ldm(f"{diffusers_name}.{reader}", family) == f"{ldm_name}.{reader}"
        assert to_diffusers(f"{ldm_name}.{reader}", family) == f"{diffusers_name}.{reader}"
        assert to_diffusers(f"model.diffusion_model.{ldm_name}.{reader}", family) == f"{diffusers_name}.{reader}"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_go_there_and_back(family: str, folders: dict[str, Path]) -> None:
    names = projections(folders[family])
    there = {to_ldm(name, family) for name in names}
    assert len(there) == len(names) and {to_diffusers(name, family) for name in there} == set(names)
    unet = ldm.state(folders[family], "unet")
    assert there == {ldm.unet_name(name, unet) for name in names}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_projections_are_those_of_the_folder(
    family: str, dtype: torch.dtype, prefix: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    file = ldm.save_single_file(family, folders[family], tmp_path / "model.safetensors", dtype, prefix)
    read, expected = read_projections_ldm(file), projections(folders[family])
    assert list(read) == sorted(expected) and read_family(file) == family
    assert all(tensor.dtype == dtype and tensor.equal(expected[name].to(dtype)) for name, tensor in read.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_alone_is_known_by_its_own_tensors(family: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    whole = load_file(checkpoints[family])
    start = "model.diffusion_model."
    unet = {name.removeprefix(start): tensor for name, tensor in whole.items() if name.startswith(start)}
    save_file(unet, tmp_path / "unet.safetensors")
    assert read_family(tmp_path / "unet.safetensors") == family
    assert len(read_projections_ldm(tmp_path / "unet.safetensors")) == (57 if family == "sdxl" else 32)
    with pytest.raises(EditkitError, match="no text encoder in it, expected tensors named cond"):
        read_text_encoders(tmp_path / "unet.safetensors", family, ldm.TOKENIZER)


def test_a_projection_is_read_when_it_is_looked_at(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else of the checkpoint; what was looked at is not kept."""
    read: list[str] = []
    really_read = numbers.Weights.read

    def counting(weights: numbers.Weights, name: str) -> Tensor:
        read.append(name)
        return really_read(weights, name)

    monkeypatch.setattr(numbers.Weights, "read", counting)
    projections = read_projections_ldm(checkpoints["sd1"])
    assert len(projections) == 32 and not read
    for _ in projections.items():
        pass
    assert len(read) == 32 and all("attn2.to_" in name for name in read)
    last = weakref.ref(projections[next(iter(projections))])
    assert last() is None and len(read) == 33


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_text_encoders_are_those_of_the_folder(
    family: str, dtype: torch.dtype, folders: dict[str, Path], tmp_path: Path
) -> None:
    file = ldm.save_single_file(family, folders[family], tmp_path / "model.safetensors", dtype)
    pipe = stock(family, file, folders[family])
    pairs = read_text_encoders(file, family, ldm.TOKENIZER)
    assert len(pairs) == (2 if family == "sdxl" else 1)
    for (tokenizer, model), end in zip(pairs, ("", "_2"), strict=False):
        theirs, their_tokenizer = getattr(pipe, f"text_encoder{end}").float(), getattr(pipe, f"tokenizer{end}")
        words = ["a church", "", "a photo of a dog in the rain"]
        ids, same = (
            each(words, padding="max_length", return_tensors="pt").input_ids for each in (tokenizer, their_tokenizer)
        )
        assert ids.equal(same) and ids.shape == (3, ldm.POSITIONS)
        with torch.no_grad():
            expected = theirs(ids, output_hidden_states=True)
        close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(model.rows(ids.tolist(), -2), expected.hidden_states[-2].flatten(0, 1), **close)
        if end:
            torch.testing.assert_close(model.pooled(ids.tolist(), projected=True), expected.text_embeds, **close)
        else:
            torch.testing.assert_close(model.rows(ids.tolist()), expected.last_hidden_state.flatten(0, 1), **close)
            torch.testing.assert_close(model.pooled(ids.tolist(), projected=False), expected.pooler_output, **close)


def test_both_forms_of_stable_diffusion_2_give_the_layers_that_the_pipeline_runs() -> None:
    assert used_layers(24, penultimate=True) == 23  # released files
    assert used_layers(23, penultimate=True) == 23  # converted from diffusers
    assert used_layers(32, penultimate=False) == 32


def test_older_names_of_the_text_encoder(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    old = "cond_stage_model.transformer."
    renamed = {name.replace(f"{old}text_model.", old): tensor for name, tensor in load_file(checkpoints["sd1"]).items()}
    renamed[f"{old}embeddings.position_ids"] = torch.arange(ldm.POSITIONS)[None]
    save_file(renamed, tmp_path / "old.safetensors")
    ((_, mine),), ((_, expected),) = (
        read_text_encoders(file, "sd1", ldm.TOKENIZER) for file in (tmp_path / "old.safetensors", checkpoints["sd1"])
    )
    assert mine.tensors.keys() == expected.tensors.keys()
    assert all(tensor.equal(expected.tensors[name]) for name, tensor in mine.tensors.items())


def test_the_shipped_tokenizer_is_clips() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408 and tokenizer.model_max_length == 77
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("Café naïve, don't!").input_ids == [49406, 15304, 1097, 35689, 563, 267, 847, 713, 256, 49407]
    assert tokenizer("cat", padding="max_length").input_ids[3:] == [49407] * 74
    assert clip_tokenizer("!")("cat", padding="max_length").input_ids[3:] == [0] * 74


def test_without_a_folder_the_tokenizer_is_the_shipped_one(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(EditkitError, match="tokenizer has 49,408 tokens, but the checkpoint's text encoder knows 1,"):
        read_text_encoders(checkpoints["sd1"], "sd1")


OTHERS: dict[str, tuple[list[str], str]] = {
    "vae": (["first_stage_model.decoder.conv_in.weight"], "this is a VAE, expected a checkpoint of SD 1.x"),
    "vae alone": (["encoder.conv_in.weight", "decoder.conv_in.weight"], "this is a VAE"),
    "lora": (["lora_unet_input_blocks_4_1_attn2_to_k.lora_down.weight"], "this is a LoRA"),
    "peft": (["unet.mid_block.attn2.to_k.lora_A.weight"], "this is a LoRA"),
    "unet": (["down_blocks.0.resnets.0.conv1.weight"], "a UNet with diffusers' names, .*; give its folder"),
    "edit": (["up.*", "down.*"], "this is an edit"),
    "flux": (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "a model of another family"),
    "other": (["weight"], "found weight; give another file"),
    "empty": ([], "found no tensors; give another file"),
    "refiner": (["conditioner.embedders.0.model.ln_final.weight", "input_blocks.0.0.weight"], "SDXL refiner"),
    "refiner unet": (["label_emb.0.0.weight", "input_blocks.9.0.op.weight"], "SDXL refiner"),
    "upscaler": (["input_blocks.0.0.weight"], "its UNet is of no family"),
}


@pytest.mark.parametrize(("names", "said"), OTHERS.values(), ids=list(OTHERS))
def test_other_files_are_named(names: list[str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    for read in (read_family, read_projections_ldm):
        with pytest.raises(EditkitError, match=f"model.safetensors: .*{said}"):
            read(file)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: to_ldm("up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", "sd1"), "of a sd1 UNet"),
        (lambda: to_ldm("up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.weight", "sd1"), "of a sd1 UNet"),
        (lambda: to_ldm(POOLED, "sd2"), "of a sd2 UNet in diffusers' names; expected attn2.to_k, to_v"),
        (lambda: to_diffusers("input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight", "sd1"), "of a sd1 checkpoint"),
        (lambda: to_diffusers("out.2.weight", "sdxl"), "no text projection of a sdxl checkpoint"),
        (lambda: to_ldm(POOLED, "flux"), "family 'flux': single files must be of sd1, sd2, sdxl"),
        (lambda: read_text_encoders("x", "flux"), "family 'flux': single files must be of sd1, sd2, sdxl"),
        (lambda: read_family("/nowhere.safetensors"), "/nowhere.safetensors: expected a safetensors file"),
        (lambda: ldm_family({"input_blocks.0.0.weight": (8, 4, 3, 3)}), "this file: its UNet is of no family"),
    ],
)
def test_impossible_requests(make: Callable[[], object], said: str) -> None:
    with pytest.raises(EditkitError, match=said):
        make()


def test_damaged_files_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(checkpoints["sd1"].read_bytes()[:100_000])
    with pytest.raises(EditkitError, match=r"short.safetensors: expected a safetensors file.*fetch it again"):
        read_projections_ldm(short)
    whole = load_file(checkpoints["sd1"])
    del whole["cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias"]
    save_file(whole, tmp_path / "lacking.safetensors")
    with pytest.raises(EditkitError, match=r"its text encoder .* lacks encoder.layers.1.mlp.fc2.bias; was it pruned"):
        read_text_encoders(tmp_path / "lacking.safetensors", "sd1", ldm.TOKENIZER)
    del whole["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    save_file(whole, tmp_path / "lacking.safetensors")
    with pytest.raises(EditkitError, match=r"lacks embeddings.token_embedding.weight"):
        read_text_encoders(tmp_path / "lacking.safetensors", "sd1", ldm.TOKENIZER)
    with pytest.raises(EditkitError, match="no tokenizer can be read from it"):
        read_text_encoders(checkpoints["sd1"], "sd1", tmp_path / "nothing")
