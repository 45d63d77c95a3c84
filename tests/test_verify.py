"""`verify`: what an export is, what one changed number makes of it, and what can be told without the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.variants.rounding import Difference, edited_difference
from editkit.variants.tuned_file import save_tuned
from editkit.variants.verify import NO, NOT_AT_HAND, YES
from tests import ldm
from tests.cli import run
from tests.test_tuned import random_tuned

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture(scope="module")
def church() -> Edit:
    return editkit.erase("emoji", ["church"], options=Options("uce", protect="none"))


@pytest.fixture(scope="module")
def exported(church: Edit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "edited"
    editkit.export(church, editkit.open_model("emoji"), out, "diffusers")
    return out


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny single file with moving averages, kept in float32; an edit of it, its export, and the tokenizer."""
    root = tmp_path_factory.mktemp("single")
    folder = ldm.save_folder("sd1", root / "folder")
    weights = load_file(ldm.save_single_file("sd1", folder, root / "plain.safetensors"))
    means = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor * 0.99
        for name, tensor in weights.items()
        if name.startswith("model.diffusion_model.")
    }
    save_file(weights | means, root / "base.safetensors")
    model = editkit.open_model(root / "base.safetensors", folder / "tokenizer")
    edit = editkit.erase(model, ["church"], ["a dog"], options=Options("uce", protect="none", tokens="all"))
    editkit.export(edit, model, root / "edited.safetensors", "single-file")
    return root / "base.safetensors", edit, root / "edited.safetensors", folder / "tokenizer"


def changed(path: Path, change: Change) -> None:
    """The file without its link to another one, and with other tensors."""
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path)


def projection(tensors: dict[str, Tensor]) -> str:
    return next(name for name in sorted(tensors) if name.endswith("attn2.to_v.weight"))


def test_an_export_is_the_base_with_the_edit(exported: Path, church: Edit) -> None:
    found = editkit.verify(exported, church, "emoji")
    assert (found.answer, found.scope, found.close, found.difference) == (YES, "whole", "bits", None)
    stored = sum(len(load_file(path)) for path in exported.rglob("*.safetensors"))
    assert found.compared == stored and not found.unlike and not found.passed_over
    alone = editkit.verify(exported, church)  # the record names the bundled model
    assert (alone.answer, alone.scope, alone.compared) == (YES, "edited", len(editkit.open_model("emoji").projections))


def test_one_last_bit_of_a_projection_is_a_no_with_its_name(exported: Path, church: Edit, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "model")
    named: list[str] = []

    def flip(tensors: dict[str, Tensor]) -> None:
        named.append(projection(tensors))
        tensors[named[0]].view(torch.int16)[3, 5] ^= 1

    changed(tmp_path / "model" / UNET, flip)
    found = editkit.verify(tmp_path / "model", church)
    assert found.answer == NO and found.difference is not None and not found.unedited
    assert found.difference.tensor == named[0] and "at [3, 5] in float16" in found.difference.expected
    assert 0 < (found.difference.largest or 0) < 1e-2


@pytest.mark.parametrize("component", ["vae", "text_encoder", "unet"])
def test_what_no_edit_changes_must_be_the_bases(component: str, exported: Path, church: Edit, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "model")
    (path,) = (tmp_path / "model" / component).glob("*.safetensors")
    name = next(name for name in sorted(load_file(path)) if "norm" in name)
    changed(path, lambda tensors: tensors[name].view(torch.int16)[0].bitwise_xor_(1))
    found = editkit.verify(tmp_path / "model", church, "emoji")
    assert found.answer == NO
    if component != "text_encoder":  # whose hash tells it without the base
        assert found.difference is not None and found.difference.tensor == name
    expected = NO if component == "text_encoder" else YES
    assert editkit.verify(tmp_path / "model", church).answer == expected


def test_a_tensor_too_many_or_too_few_is_a_no(exported: Path, church: Edit, tmp_path: Path) -> None:
    changes: list[Change] = [
        lambda tensors: tensors.pop("conv_in.bias"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.pop(projection(tensors)),
    ]
    for n, change in enumerate(changes):
        shutil.copytree(exported, tmp_path / str(n))
        changed(tmp_path / str(n) / UNET, change)
        found = editkit.verify(tmp_path / str(n), church, "emoji")
        assert found.answer == NO and found.difference is not None
    assert found.difference.tensor.endswith("to_v.weight")  # pyright: ignore


def test_another_edit_and_no_edit_are_told_apart(exported: Path, church: Edit) -> None:
    dog = editkit.erase("emoji", ["dog"], options=Options("uce", protect="none"))
    other = editkit.verify(exported, dog, "emoji")
    assert other.answer == NO and not other.unedited and other.difference is not None
    for base in ("emoji", None):
        bare = editkit.verify("emoji", church, base)
        assert bare.answer == NO and bare.unedited and "unedited" in bare.why
    nothing = Edit({"*": EditMap.identity(512)}, church.record)
    assert editkit.verify("emoji", nothing).answer == YES  # an edit of nothing leaves the base


def test_settings_and_pickles_are_named_and_prove_nothing(exported: Path, church: Edit, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(exported, model)
    scheduler = model / "scheduler" / "scheduler_config.json"
    settings = json.loads(scheduler.read_text())
    scheduler.write_text(json.dumps(settings | {"_diffusers_version": "9"}))
    assert editkit.verify(model, church, "emoji").unlike == ()
    scheduler.write_text(json.dumps(settings | {"prediction_type": "sample"}))
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"?")
    (model / "whole.safetensors").write_bytes((model / UNET).read_bytes())
    found = editkit.verify(model, church, "emoji")
    assert found.answer == YES and found.unlike == ("scheduler/scheduler_config.json",)
    assert found.passed_over == ("unet/diffusion_pytorch_model.bin", "whole.safetensors")
    assert "scheduler/scheduler_config.json" in found.why and "whole.safetensors" in found.why


def test_a_folder_that_diffusers_saved_again_in_half_precision(tiny_sd: Path, tmp_path: Path) -> None:
    """A float32 base: exported and then converted, and converted and then edited."""
    from diffusers import StableDiffusionPipeline

    model = editkit.open_model(tiny_sd)
    edit = editkit.erase(model, ["church"], ["a dog"], options=Options("uce", protect="none", tokens="all"))
    editkit.export(edit, model, tmp_path / "whole", "diffusers")
    assert editkit.verify(tmp_path / "whole", edit, tiny_sd).close == "bits"
    for name, start, close in (("after", tmp_path / "whole", "bits"), ("before", tiny_sd, "cast")):
        pipe: Any = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float16, safety_checker=None)
        if name == "before":
            edited = edit.weights({key: value for key, value in pipe.unet.state_dict().items() if "attn2.to_" in key
                                   and key.endswith(("to_k.weight", "to_v.weight"))})  # fmt: skip
            pipe.unet.load_state_dict(edited, strict=False)
        pipe.save_pretrained(tmp_path / name)
        found = editkit.verify(tmp_path / name, edit, tiny_sd)
        assert (found.answer, found.scope, found.close, found.unlike) == (YES, "whole", close, ()), found.why
    changed(tmp_path / "after" / UNET, lambda tensors: tensors[projection(tensors)][0, 0].mul_(1.01))
    assert editkit.verify(tmp_path / "after", edit, tiny_sd).answer == NO


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, torch.int32), (torch.float16, torch.int16)])
def test_rounding_is_told_from_a_last_bit(dtype: torch.dtype, bits: torch.dtype) -> None:
    torch.manual_seed(0)
    rank, width = 3, 40
    maps = EditMap(torch.randn(width, rank, dtype=torch.float64), torch.randn(rank, width, dtype=torch.float64))
    edit, base = Edit({"*": maps}), torch.randn(50, width)
    right = (base.double() @ maps.dense()).to(dtype)  # summed otherwise
    assert edited_difference(edit, "W", right, base) in ("bits", "cast")
    kept = Edit({"*": EditMap(maps.U.float().double(), maps.V.float().double())})
    assert edited_difference(kept, "W", right, base) in ("cast", "float32")  # as an edit file keeps it
    seen = []
    for at in range(100):
        wrong = right.clone()
        wrong.view(bits).view(-1)[at] ^= 1
        seen.append(edited_difference(edit, "W", wrong, base))
    assert not {"bits", "cast"} & {each for each in seen if isinstance(each, str)}
    if dtype == torch.float16:
        assert sum(isinstance(each, Difference) for each in seen) >= 80  # the rest are told as the last of `CLOSE`
    wrong.view(-1)[0] += 1e-3 * float(right.abs().max())
    assert isinstance(edited_difference(edit, "W", wrong, base), Difference)


def test_a_single_file_with_its_averages(single: Any, tmp_path: Path) -> None:
    base, edit, out, tokenizer = single
    found = editkit.verify(out, edit, base, tokenizer)
    assert (found.answer, found.scope, found.close) == (YES, "whole", "bits"), found.why
    assert found.compared == len(load_file(out))
    assert editkit.verify(base, edit, base, tokenizer).unedited
    mean = next(name for name in sorted(load_file(out)) if name.startswith("model_ema.") and "attn2to_k" in name)
    for name in (mean, "first_stage_model.decoder.conv_in.bias"):
        shutil.copy(out, tmp_path / "other.safetensors")
        changed(tmp_path / "other.safetensors", lambda tensors: tensors[name].view(-1)[0].add_(0.5))  # noqa: B023
        found = editkit.verify(tmp_path / "other.safetensors", edit, base, tokenizer)
        assert found.answer == NO and found.difference is not None and found.difference.tensor == name
    folder = tokenizer.parent  # the same weights in another form
    found = editkit.verify(folder, edit, folder)
    assert found.unedited and editkit.verify(folder, edit).unedited


def test_a_single_file_of_sdxl(tmp_path: Path) -> None:
    folder = ldm.save_folder("sdxl", tmp_path / "folder")
    base = ldm.save_single_file("sdxl", folder, tmp_path / "base.safetensors")
    model = editkit.open_model(base, folder / "tokenizer")
    edit = editkit.erase(model, ["church"], ["a dog"], options=Options("uce", protect="none", tokens="all"))
    editkit.export(edit, model, tmp_path / "edited.safetensors", "single-file")
    found = editkit.verify(tmp_path / "edited.safetensors", edit, base, folder / "tokenizer")
    assert (found.answer, found.scope, found.close) == (YES, "whole", "bits"), found.why


@pytest.mark.parametrize("lora", [False, True])
def test_what_was_tuned(lora: bool, tiny_sd: Path, tmp_path: Path) -> None:
    folder = ldm.save_folder("sd1", tmp_path / "base")
    tuned = random_tuned(folder, lora)
    save_tuned(tuned, tmp_path / "run" / "tuned.safetensors")
    editkit.export(tuned, editkit.open_model(folder), tmp_path / "out", "diffusers")
    found = editkit.verify(tmp_path / "out", tmp_path / "run", folder)
    assert (found.answer, found.scope, found.close) == (YES, "whole", "bits"), found.why
    assert editkit.verify(folder, tmp_path / "run", folder).unedited
    shutil.rmtree(folder)  # the base: without it whole tensors can still be told, a LoRA cannot
    assert editkit.verify(tmp_path / "out", tmp_path / "run").answer == (NOT_AT_HAND if lora else YES)


def test_without_the_base_it_says_what_can_be_told(tiny_sd: Path, church: Edit, tmp_path: Path) -> None:
    here = tmp_path / "base"
    shutil.copytree(tiny_sd, here)
    edit = editkit.erase(here, ["church"], ["a dog"], options=Options("uce", protect="none", tokens="all"))
    editkit.save_edit(edit, tmp_path / "e.safetensors")
    editkit.export(edit, editkit.open_model(here), tmp_path / "out", "diffusers")
    shutil.rmtree(here)
    found = editkit.verify(tmp_path / "out", edit)
    assert found.answer == NOT_AT_HAND and "is not the unedited base" in found.why and "--base" in found.why
    assert editkit.verify(tmp_path / "out", edit, "emoji").answer == NOT_AT_HAND
    assert "text encoder is another" in editkit.verify(tmp_path / "out", church).why
    said = run("verify", "out", "e.safetensors", cwd=tmp_path, code=1)
    assert said.startswith("error: out, e.safetensors: not at hand: ") and said.count("\n") == 1
    said = run("verify", "out", "e.safetensors", "--base", tiny_sd, cwd=tmp_path)
    assert said.startswith(
        f"yes: out is {tiny_sd} with e.safetensors: every weight is as expected, within what float32"
    )
    told = json.loads(run("verify", "out", "e.safetensors", "--base", tiny_sd, "--json", cwd=tmp_path))
    assert told["answer"] == "yes" and told["difference"] is None


def test_a_no_on_the_command_line(exported: Path, church: Edit, tmp_path: Path) -> None:
    editkit.save_edit(church, tmp_path / "church.safetensors")
    said = run("verify", "emoji", "church.safetensors", cwd=tmp_path, code=1)
    assert said.startswith("error: emoji, church.safetensors: no: it is the unedited base") and said.count("\n") == 1
    run("verify", "emoji", "church.safetensors", "--json", cwd=tmp_path, code=1)


def test_what_cannot_be_verified_is_refused(church: Edit, single: Any, tmp_path: Path) -> None:
    editkit.export(church, editkit.open_model("emoji"), tmp_path / "lora.safetensors", "kohya")
    with pytest.raises(EditkitError, match="this is a LoRA, expected a checkpoint"):
        editkit.verify(tmp_path / "lora.safetensors", church)
    with pytest.raises(EditkitError, match="a gate is no weights"):
        none = torch.zeros(0, 512)
        editkit.verify("emoji", replace(church, gate=Gate(none, none, none, tau=0.5, eps=0.1, n=1)))
    base, edit, _, tokenizer = single
    weights = load_file(base)
    name = next(name for name in weights if name.endswith("attn2.to_k.weight"))
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    save_file(weights, tmp_path / "float8.safetensors")
    with pytest.raises(EditkitError, match="is float8, expected float16"):
        editkit.verify(tmp_path / "float8.safetensors", edit, base, tokenizer)


def test_an_edit_in_memory_and_in_its_file_are_as_near_as_the_answer_says(tmp_path: Path) -> None:
    """Of the method whose factors lose most."""
    model = editkit.open_model("emoji")
    base = {name: W.float() for name, W in model.projections.items()}
    options = Options("uce", protect="none", technique="tensor")
    edit = editkit.erase(model, ["church"], options=options, checked=False)
    editkit.save_edit(edit, tmp_path / "church.safetensors")
    kept = editkit.load_edit(tmp_path / "church.safetensors")
    close = {edited_difference(kept, name, W, base[name]) for name, W in edit.weights(base).items()}
    assert close <= {"bits", "cast", "float32"} and "float32" in close
