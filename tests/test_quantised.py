"""Weights that are not plain numbers: float8 is read right and written back as float8, all else is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint, read_projections, read_tensors
from editkit.model.checkpoints.single_file import read_projections_ldm, read_text_encoders
from editkit.model.checkpoints.source import Source, find
from editkit.model.editable import open_model
from editkit.model.formats import lora, single_file
from tests import ldm
from tests.cases import randn

WIDTH = 128
WEAK = Edit({"*": EditMap(0.1 * randn(1, WIDTH, 3), 0.1 * randn(2, 3, WIDTH))})
STRONG = Edit({"*": EditMap(randn(1, WIDTH, 3), randn(2, 3, WIDTH))})
UNET = "model.diffusion_model."
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ldm.save_folder("sd1", tmp_path_factory.mktemp("quantised") / "tiny")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Tensors:
    return load_file(ldm.save_single_file("sd1", folder, folder.with_suffix(".safetensors")))


def bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def is_projection(name: str) -> bool:
    return name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))


def plain(tensors: Tensors, dtype: torch.dtype = E4M3) -> tuple[Tensors, dict[str, str]]:
    """As ComfyUI and WebUI save `fp8`: every tensor is cast, text encoder and norms too."""
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}, {}


def scaled(tensors: Tensors, end: str = "scale_weight", dtype: torch.dtype = E4M3) -> tuple[Tensors, dict[str, str]]:
    """Matrices of the UNet in float8, each with a scale that uses its whole range; all else in float16."""
    stored: Tensors = {f"{UNET}scaled_fp8": torch.zeros(2).to(dtype)} if end == "scale_weight" else {}
    for name, tensor in tensors.items():
        if name.startswith(UNET) and name.endswith(".weight") and tensor.ndim == 2:
            scale = tensor.abs().max() / torch.finfo(dtype).max
            stored[name] = (tensor / scale).to(dtype)
            stored[f"{name.removesuffix('weight')}{end}"] = scale
            stored[f"{name.removesuffix('weight')}scale_input"] = torch.ones(1)
        else:
            stored[name] = tensor.half()
    return stored, {}


def noted(tensors: Tensors) -> tuple[Tensors, dict[str, str]]:
    """ComfyUI's later form: a note beside each weight."""
    stored, _ = scaled(tensors, "weight_scale")
    note = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    notes = {name.replace("weight_scale", "comfy_quant"): note.clone() for name in stored if "weight_scale" in name}
    return stored | notes, {}


def noted_in_the_header(tensors: Tensors) -> tuple[Tensors, dict[str, str]]:
    stored, _ = scaled(tensors, "weight_scale")
    layers = {name.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"} for name in stored if "_scale" in name}
    return stored, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


FORMS: dict[str, Callable[[Tensors], tuple[Tensors, dict[str, str]]]] = {
    "e4m3": plain,
    "e5m2": lambda tensors: plain(tensors, E5M2),
    "scaled": scaled,
    "scaled e5m2": lambda tensors: scaled(tensors, dtype=E5M2),
    "noted": noted,
    "noted in the header": noted_in_the_header,
}


def saved(made: tuple[Tensors, dict[str, str]], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in made[0].items()}, path, made[1])
    return path


def values(path: Path, name: str) -> Tensor:
    """What ComfyUI computes with: `stored * scale`."""
    tensors = load_file(path)
    scales = [f"{name.removesuffix('weight')}{end}" for end in ("scale_weight", "weight_scale")]
    scale = next((tensors[scale].float() for scale in scales if scale in tensors), torch.tensor(1.0))
    return tensors[name].float() * scale


@pytest.mark.parametrize("form", FORMS)
def test_float8_is_read_as_the_numbers_that_it_means(form: str, whole: Tensors, tmp_path: Path) -> None:
    file = saved(FORMS[form](whole), tmp_path / "model.safetensors")
    read = read_projections_ldm(file)
    assert len(read) == 32
    for name, W in read.items():
        stored = UNET + single_file.ldm_name(name, "sd1")
        assert W.dtype == torch.float32 and W.equal(values(file, stored))
        rounding = 2.0**-3 if "e5m2" in form else 2.0**-4
        far = (W - whole[stored]).abs()
        assert float((far / whole[stored].abs().clamp_min(2.0**-6)).max()) <= rounding
    ((_, model),) = read_text_encoders(file, "sd1", ldm.TOKENIZER)
    assert all(tensor.isfinite().all() for tensor in model.tensors.values())


@pytest.mark.parametrize("form", FORMS)
def test_a_float8_file_stays_one(form: str, whole: Tensors, tmp_path: Path) -> None:
    file, out = saved(FORMS[form](whole), tmp_path / "model.safetensors"), tmp_path / "out.safetensors"
    before = read_projections_ldm(file)
    lost = single_file.write(WEAK, before, file, out, "sd1")
    old, new = load_file(file), load_file(out)
    edited = WEAK.weights(before)
    assert {name: tensor.dtype for name, tensor in old.items()} == {name: tensor.dtype for name, tensor in new.items()}
    worst = 0.0
    for name, W in edited.items():
        stored = UNET + single_file.ldm_name(name, "sd1")
        got = values(out, stored)
        assert float((got - W).norm() / W.norm()) < (0.06 if "e5m2" in form else 0.03)
        worst = max(worst, float((got - W).norm() / (W - before[name]).norm()))
    assert lost == pytest.approx(worst) and 0 < lost < 1
    touched = {name for name, tensor in old.items() if not bits(tensor).equal(bits(new[name]))}
    assert all(is_projection(name) or name.endswith(("scale_weight", "weight_scale")) for name in touched)


def test_a_scale_is_kept_until_the_numbers_outgrow_it(whole: Tensors, tmp_path: Path) -> None:
    file = saved(scaled(whole), tmp_path / "model.safetensors")
    before = read_projections_ldm(file)

    def scales(edit: Edit, out: Path) -> list[tuple[Tensor, Tensor]]:
        single_file.write(edit, before, file, out, "sd1")
        old, new = load_file(file), load_file(out)
        return [(old[name], new[name]) for name in old if name.endswith("attn2.to_k.scale_weight")]

    halved = Edit({"*": EditMap(-0.5 * torch.eye(WIDTH).double(), torch.eye(WIDTH).double())})
    assert all(old.equal(new) for old, new in scales(halved, tmp_path / "half.safetensors"))
    assert all(new > old for old, new in scales(STRONG, tmp_path / "strong.safetensors"))
    for name, W in STRONG.weights(before).items():
        got = values(tmp_path / "strong.safetensors", UNET + single_file.ldm_name(name, "sd1"))
        assert float((got - W).norm() / W.norm()) < 0.03


def test_numbers_that_plain_float8_does_not_hold_are_refused(whole: Tensors, tmp_path: Path) -> None:
    file = saved(plain(whole), tmp_path / "model.safetensors")
    huge = Edit({"*": EditMap(1e4 * torch.eye(WIDTH).double(), torch.eye(WIDTH).double())})
    with pytest.raises(EditkitError, match=r"attn2.to_k.weight would reach .*, more than F8_E4M3 holds; edit the unq"):
        single_file.write(huge, read_projections_ldm(file), file, tmp_path / "out.safetensors", "sd1")


@pytest.mark.parametrize("form", FORMS)
def test_a_lora_of_a_float8_file_is_the_change_of_its_numbers(form: str, whole: Tensors, tmp_path: Path) -> None:
    own = read_projections_ldm(saved(FORMS[form](whole), tmp_path / "model.safetensors"))
    lora.write(WEAK, own, tmp_path / "lora.safetensors")
    factors = load_file(tmp_path / "lora.safetensors")
    for name, W in own.items():
        up, down = (factors[f"unet.{name.removesuffix('weight')}lora_{side}.weight"] for side in "BA")
        torch.testing.assert_close(up @ down, WEAK.weights({name: W})[name] - W, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_plain_model_keeps_its_dtype_and_its_fingerprint(dtype: torch.dtype, whole: Tensors, tmp_path: Path) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in whole.items()}
    file = saved((stored, {}), tmp_path / "model.safetensors")
    expected = {name: stored[UNET + single_file.ldm_name(name, "sd1")] for name in read_projections_ldm(file)}
    read = read_projections_ldm(file)
    assert all(tensor.dtype == dtype and tensor.equal(expected[name]) for name, tensor in read.items())
    assert fingerprint(read) == fingerprint(expected)


def as_int8(name: str, W: Tensor) -> Tensors:
    return {name: (W * 100).to(torch.int8), name.replace("weight", "SCB"): torch.ones(len(W))}


def as_blocks(name: str, W: Tensor) -> Tensors:
    packed = torch.zeros(W.numel() // 2, 1, dtype=torch.uint8)
    ends = {"absmax": torch.ones(4), "quant_map": torch.ones(16), "quant_state.bitsandbytes__nf4": packed[:9, 0]}
    return {name: packed, **{f"{name}.{end}": tensor.clone() for end, tensor in ends.items()}}


def parts(*ends: str) -> Callable[[str, Tensor], Tensors]:
    """Without the weight itself: its parts alone."""
    return lambda name, W: {name.replace("weight", end): torch.zeros(4, dtype=torch.int32) for end in ends}


def as_float8(*beside: str, shape: tuple[int, ...] = ()) -> Callable[[str, Tensor], Tensors]:
    return lambda name, W: {
        name: W.to(E4M3), **{name.replace("weight", end): torch.ones(shape) for end in beside}
    }  # fmt: skip


REFUSED: dict[str, tuple[Callable[[str, Tensor], Tensors], str]] = {
    "int8": (as_int8, "bitsandbytes int8, as .*SCB says"),
    "int8 alone": (lambda name, W: {name: W.to(torch.int8)}, "I8, no floating-point numbers"),
    "4 bit": (as_blocks, r"bitsandbytes 4 bit \(nf4, fp4\)"),
    "gptq": (parts("qweight", "qzeros", "scales", "g_idx"), "GPTQ, AWQ or SVDQuant"),
    "quanto": (parts("weight._data", "weight._scale", "input_scale"), "quanto"),
    "torchao": (parts("_weight_qdata", "_weight_scale"), "torchao"),
    "torchao, older": (parts("weight:_data", "weight:scale"), "torchao"),
    "hqq": (parts("W_q"), "HQQ"),
    "compressed-tensors": (parts("weight_packed", "weight_scale", "weight_shape"), "compressed-tensors"),
    "blocks of float8": (as_float8("weight_scale_inv", shape=(2, 2)), "float8 with a scale per block"),
    "rows of float8": (as_float8("scale_weight", shape=(8, 1)), "F8_E4M3 with many scales, .*scale_weight"),
    "a scale that nothing explains": (
        as_float8("weight_scale"),
        "F8_E4M3, with a scale of the format that nothing names",
    ),
    "nvfp4": (as_float8("weight_scale", "weight_scale_2"), "nvfp4"),
}


@pytest.mark.parametrize("place", ["file", "folder"])
@pytest.mark.parametrize("layout", REFUSED)
def test_other_layouts_are_refused_by_name(
    layout: str, place: str, folder: Path, whole: Tensors, tmp_path: Path
) -> None:
    change, said = REFUSED[layout]
    message = rf"attn2.to_[kv].weight is quantised \({said}.*\), expected plain numbers; edit the unquantised model"
    held = whole if place == "file" else ldm.state(folder, "unet")
    made: Tensors = {}
    for name, tensor in held.items():
        made |= change(name, tensor) if is_projection(name) else {name: tensor}
    if place == "file":
        saved((made, {}), tmp_path / "model.safetensors")
        model = find(tmp_path / "model.safetensors")
    else:
        model = a_copy(folder, tmp_path / "copy")
        saved((made, {}), model.path / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(EditkitError, match=message):
        read_projections(model)


def a_copy(folder: Path, to: Path) -> Source:
    import shutil

    shutil.copytree(folder, to)
    return find(to)


def test_a_quantised_text_encoder_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    model = a_copy(folder, tmp_path / "copy")
    held = ldm.state(folder, "text_encoder")
    name = next(key for key in held if key.endswith("layers.0.mlp.fc1.weight"))
    saved((held | as_int8(name, held[name]), {}), model.path / "text_encoder" / "model.safetensors")
    with pytest.raises(EditkitError, match=r"mlp.fc1.weight is quantised \(bitsandbytes int8, as .*SCB says"):
        _ = open_model(model).encoders


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_a_quantization_config_is_named(component: str, folder: Path, tmp_path: Path) -> None:
    model = a_copy(folder, tmp_path / "copy")
    config = model.path / component / "config.json"
    stated = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    config.write_text(json.dumps(json.loads(config.read_text()) | stated))
    opened = open_model(find(model.path))
    with pytest.raises(EditkitError, match=rf"{component}/config.json: its weights are quantised \(.* says bitsand"):
        _ = opened.projections, opened.encoders


def test_a_folder_of_float8_is_edited_and_stays_one(folder: Path, tmp_path: Path) -> None:
    model = a_copy(folder, tmp_path / "copy")
    for component, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        saved(plain(ldm.state(folder, component)), model.path / component / f"{name}.safetensors")
    edit = editkit.erase(open_model(model), ["church"], ["dog"], options=editkit.Options(protect="none"), checked=False)
    done = editkit.export(edit, open_model(model), tmp_path / "out", "diffusers")
    assert done.error > 0
    for name, tensor in ldm.state(tmp_path / "out", "unet").items():
        expected = ldm.state(model.path, "unet")[name]
        assert tensor.dtype == E4M3 and tensor.shape == expected.shape
        assert is_projection(name) or bits(tensor).equal(bits(expected))


def test_a_transformers_encoder_of_float8_is_the_model_of_its_numbers(tmp_path: Path) -> None:
    from tests import tiny_pipelines

    folder = tiny_pipelines.save("flux1", tmp_path / "tiny")
    file = folder / "text_encoder_2" / "model.safetensors"
    rounded = {name: tensor.to(E4M3) if tensor.ndim == 2 else tensor for name, tensor in load_file(file).items()}
    save_file({name: tensor.float() for name, tensor in rounded.items()}, file, {"format": "pt"})
    expected = open_model(folder).encoders["text"][0].fingerprint
    save_file(rounded, file, {"format": "pt"})
    mine = open_model(folder).encoders["text"][0]
    assert mine.fingerprint == expected
    scale = torch.tensor(0.5)
    doubles: dict[str, Any] = {
        name: (tensor.float() / 0.5).to(tensor.dtype) for name, tensor in rounded.items() if tensor.ndim == 2
    }
    scales = {f"{name.removesuffix('weight')}scale_weight": scale.clone() for name in doubles}
    save_file(rounded | doubles | scales, file, {"format": "pt"})
    assert open_model(folder).encoders["text"][0].fingerprint == expected


def test_a_gguf_file_is_named(tmp_path: Path) -> None:
    for name in ("model.gguf", "model.safetensors"):
        (tmp_path / name).write_bytes(b"GGUF\x03\x00\x00\x00")
        with pytest.raises(EditkitError, match=r"it is a GGUF file: quantised blocks, no plain numbers; give the unq"):
            find(tmp_path / name)


def test_whole_numbers_that_are_no_weights_are_in_nobodys_way(tmp_path: Path) -> None:
    save_file({"a.position_ids": torch.arange(3), "a.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    assert list(read_tensors(tmp_path / "a.safetensors", lambda _: True)) == ["a.weight"]
