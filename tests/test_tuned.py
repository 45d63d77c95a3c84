"""What a gradient stage made, everywhere an edit goes: file, pictures, checks, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import editkit
from editkit.drawing.generate import compare_grid
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.low_rank import LowRank
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.projections import fingerprint, read_named
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.variants.compose import compose as compose_files
from editkit.variants.edit_file import load_linear, save_edit
from editkit.variants.fit import check_fit
from editkit.variants.folder import TUNED_NAME
from editkit.variants.named import variant_sha256
from editkit.variants.record import read_record
from editkit.variants.tuned_file import save_tuned
from tests import ldm

CONV = "down_blocks.0.resnets.0.conv1.weight"
LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"
BIAS = "down_blocks.0.resnets.0.conv1.bias"


def random_tuned(source: Any, lora: bool = False) -> Tuned:
    """Tensors of every kind, moved by a tenth; or a LoRA of rank 3 on a convolution and rank 2 on a linear layer."""
    model = open_model(source)
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return 0.1 * torch.randn(shape, generator=generator)

    base = read_named(model.source, [CONV, LINEAR] if lora else [CONV, LINEAR, BIAS])
    tensors, factors = {}, {}
    for rank, (name, W) in enumerate(base.items(), 2):
        if lora:
            factors[name] = LowRank(noise(len(W), rank), noise(rank, W[0].numel()))
        else:
            tensors[name] = W.float() + noise(*W.shape)
    record = {
        "method": "ap", "concepts": ["church"], "guides": [""], "options": {}, "model": model.source.name,
        "family": model.source.family.name, "text_encoder_sha256": model.text_encoder_sha256,
    }  # fmt: skip
    return Tuned(tensors, factors, {name: fingerprint({name: W}) for name, W in base.items()}, record)


def weights(pipe: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pipe.unet.state_dict().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline in the real block layout."""
    return ldm.save_folder("sd1", tmp_path_factory.mktemp("tuned") / "sd1")


@pytest.mark.parametrize("lora", [False, True])
def test_it_is_read_as_it_was_written_from_the_file_or_the_folder(lora: bool, folder: Path, tmp_path: Path) -> None:
    tuned = random_tuned(folder, lora)
    save_tuned(tuned, tmp_path / "run" / "tuned.safetensors")
    for path in (tmp_path / "run", tmp_path / "run" / "tuned.safetensors"):
        again = editkit.load_edit(path)
        assert isinstance(again, Tuned) and again.base == tuned.base and again.is_low_rank == lora
        assert read_record(path)["concepts"] == ["church"]
        mine, theirs = (model.weights(read_named(open_model(folder).source, tuned.names)) for model in (tuned, again))
        assert mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in mine)


def test_a_low_rank_change_is_the_product_of_its_factors() -> None:
    up, down = torch.randn(4, 2), torch.randn(2, 27)
    W = torch.randn(4, 3, 3, 3)
    tuned = Tuned({}, {"w": LowRank(up, down)}, {"w": ""})
    assert torch.allclose(tuned.weights({"w": W, "other": W})["w"], W + (up @ down).view(4, 3, 3, 3))
    assert set(tuned.weights({"w": W, "other": W})) == {"w"}


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([], "is empty"),
        (["model_index.json", "unet"], "is a diffusers model; give it with --model"),
        (["checkpoint.pt", "log.jsonl"], "is a run of `refine` that has no result yet; .*--resume"),
        (["b.safetensors", "a.safetensors", "notes.txt"], "holds a.safetensors, b.safetensors; give one of them"),
        (["results.json", "pictures"], "holds the results of `editkit evaluate`"),
        ([f"{n}.png" for n in range(7)], "holds 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"),
    ],
)
def test_a_folder_that_is_no_edit_is_named(names: list[str], what: str, tiny_sd: Path, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    expected = r"expected an edit file \(.safetensors\) or a folder that `editkit refine` or `editkit hide` made"
    for read in (editkit.load_edit, load_linear, read_record, variant_sha256):
        with pytest.raises(editkit.EditkitError, match=f"{tmp_path}: {expected}; this folder {what}") as caught:
            read(str(tmp_path))
        assert TUNED_NAME not in str(caught.value)
    with pytest.raises(editkit.EditkitError, match=f"this folder {what}"):
        compare_grid(tiny_sd, ["base", str(tmp_path)], ["a church"], "0", tmp_path / "g.png")


@pytest.mark.parametrize("lora", [False, True])
def test_pictures_are_those_of_the_tuned_weights(lora: bool, tiny_sd: Path) -> None:
    tuned = random_tuned(tiny_sd, lora)
    edit = editkit.erase(open_model(tiny_sd), ["church"], [" "], options=Options("uce", protect="none"), checked=False)
    denoiser, sampling = open_denoiser(find(tiny_sd)), Sampling(steps=2, batch=2)
    pipe = denoiser.pipe
    before = weights(pipe)
    together = dict(draw(denoiser, jobs(["a church", "a dog"], [0], 3), [None, tuned, edit], sampling))
    assert all(value.equal(before[name]) for name, value in weights(pipe).items())
    alone = dict(draw(denoiser, jobs(["a church", "a dog"], [0]), [None], sampling))
    with editkit.applied(pipe, tuned):
        wanted = dict(draw(denoiser, jobs(["a church", "a dog"], [0]), [None], sampling))
    for prompt in ("a church", "a dog"):
        assert together[Job(prompt, 0, 1)].tobytes() == wanted[Job(prompt, 0)].tobytes()
        assert together[Job(prompt, 0, 0)].tobytes() == alone[Job(prompt, 0)].tobytes()
        assert together[Job(prompt, 0, 1)].tobytes() != alone[Job(prompt, 0)].tobytes()


def test_it_fits_the_checkpoint_that_it_was_trained_from_alone(folder: Path, tiny_sd: Path, tmp_path: Path) -> None:
    tuned = random_tuned(folder)
    check_fit(tuned, open_model(folder))
    with pytest.raises(editkit.EditkitError, match="made with another text encoder"):
        check_fit(tuned, open_model(tiny_sd))
    other = ldm.save_folder("sd1", tmp_path / "other")
    pipe = editkit.load(other)
    with torch.no_grad():
        pipe.unet.get_parameter(CONV).mul_(1.01)
    pipe.unet.save_pretrained(other / "unet")
    with pytest.raises(editkit.EditkitError, match=f"{CONV}: this was refined from another checkpoint"):
        check_fit(tuned, open_model(other))
    with pytest.warns(UserWarning, match="refined from another checkpoint"):
        check_fit(tuned, open_model(other), force=True)


def test_a_network_of_another_shape_is_refused(folder: Path, tiny_sd: Path) -> None:
    tuned = random_tuned(folder)
    with pytest.raises(editkit.EditkitError, match="was tuned"), editkit.applied(editkit.load(tiny_sd), tuned):
        pass


@pytest.mark.parametrize("lora", [False, True])
def test_full_weights_are_exported(lora: bool, folder: Path, tmp_path: Path) -> None:
    tuned, model = random_tuned(folder, lora), open_model(folder)
    with editkit.applied(editkit.load(folder), tuned) as pipe:
        wanted = weights(pipe)
    editkit.export(tuned, model, tmp_path / "kv.safetensors", "kv")
    kv = load_file(tmp_path / "kv.safetensors")
    assert set(kv) == set(tuned.names) and all(kv[name].equal(wanted[name]) for name in kv)
    done = editkit.export(tuned, model, tmp_path / "whole", "diffusers")
    assert done.count == len(tuned.names)
    exported = weights(editkit.load(tmp_path / "whole"))
    assert all(exported[name].equal(value) for name, value in wanted.items())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_single_file_gets_tensors_of_every_kind(family: str, tmp_path: Path) -> None:
    folder = ldm.save_folder(family, tmp_path / family)
    checkpoint = ldm.save_single_file(family, folder, tmp_path / "model.safetensors")
    unet = ldm.state(folder, "unet")
    for name in unet:
        assert ldm_name(name, family) == ldm.unet_name(name, unet), name
    whole = {name: value + 1 for name, value in unet.items()}
    record = {"family": family, "text_encoder_sha256": open_model(checkpoint, ldm.TOKENIZER).text_encoder_sha256}
    tuned = Tuned(whole, {}, {name: fingerprint({name: value}) for name, value in unet.items()}, record)
    editkit.export(tuned, open_model(checkpoint, ldm.TOKENIZER), tmp_path / "tuned.safetensors", "single-file")
    before, after = load_file(checkpoint), load_file(tmp_path / "tuned.safetensors")
    for name, value in unet.items():
        assert after["model.diffusion_model." + ldm.unet_name(name, unet)].equal(value + 1)
    assert all(after[name].equal(value) for name, value in before.items() if "diffusion_model" not in name)


@pytest.mark.parametrize("form", ["lora", "kohya"])
def test_a_lora_is_exported_as_one(form: str, folder: Path, tmp_path: Path) -> None:
    """Stock diffusers loads it, and its weights are then the tuned ones; layers of different ranks are filled up."""
    tuned = random_tuned(folder, lora=True)
    done = editkit.export(tuned, open_model(folder), tmp_path / "lora.safetensors", form)
    assert done.count == 2 and done.error < 1e-6
    pipe = editkit.load(folder)
    with editkit.applied(pipe, tuned):
        wanted = weights(pipe)
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    fused = weights(pipe)
    for name in tuned.names:
        assert torch.allclose(fused[name], wanted[name], atol=1e-5)
    assert all(fused[name].equal(value) for name, value in wanted.items() if name not in tuned.names)


def test_whole_tensors_are_no_lora(folder: Path, tmp_path: Path) -> None:
    for form in ("lora", "kohya"):
        with pytest.raises(editkit.EditkitError, match="whole tensors were trained, which is no LoRA"):
            editkit.export(random_tuned(folder), open_model(folder), tmp_path / "x.safetensors", form)
    assert not list(tmp_path.iterdir())


def test_it_is_not_composed(folder: Path, tmp_path: Path) -> None:
    save_tuned(random_tuned(folder), tmp_path / "tuned.safetensors")
    edit = editkit.erase(open_model(folder), ["church"], [" "], options=Options("uce", protect="none"), checked=False)
    save_edit(edit, tmp_path / "edit.safetensors")
    with pytest.raises(editkit.EditkitError, match="no linear map; expected an edit file"):
        compose_files([tmp_path / "edit.safetensors", tmp_path / "tuned.safetensors"], tmp_path / "both.safetensors")
