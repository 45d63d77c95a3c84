"""Drawing with a single-file checkpoint as it is: the pipeline is that of its folder, and every command takes it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from editkit.concepts.profile import DEFAULT
from editkit.drawing import sampler
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.plan import plan_drawing
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.checkpoints.numbers import Weights
from editkit.model.checkpoints.source import Source, find, is_model
from editkit.model.editable import open_model
from editkit.model.pipeline import load
from editkit.tuning.hide import hide
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from tests import ldm
from tests.cli import run
from tests.test_quantised import FORMS, saved

FAMILIES = ("sd1", "sd2", "sdxl")
UNET, VAE = "model.diffusion_model.", "first_stage_model."
SAYS = {"modelspec.resolution": "32x32", "modelspec.prediction_type": "epsilon"}
BOOKS = ("_name_or_path", "_class_name", "_diffusers_version", "_use_default_values", "architectures")
"""What a configuration says of where it was written."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {family: ldm.save_folder(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def files(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("files")
    return {
        family: ldm.save_single_file(
            family, folder, root / f"{family}.safetensors", prefix="" if family == "sd2" else UNET, metadata=SAYS
        )
        for family, folder in folders.items()
    }


def opened(file: Path, **profile: Any) -> Source:
    return find(file, ldm.TOKENIZER, replace(DEFAULT, **profile) if profile else None)


def changed(file: Path, out: Path, tensors: Mapping[str, Tensor | None], says: Mapping[str, str] = SAYS) -> Path:
    """A copy of the file with tensors added, replaced, or (None) left out."""
    held: dict[str, Any] = {**load_file(file), **tensors}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, out, {**says})
    return out


def pictures(source: Source, **settings: Any) -> list[np.ndarray]:
    wanted, sampling = jobs(["a church", "a dog in the rain"], [3]), Sampling(steps=3, guidance=3.0, **settings)
    return [np.asarray(picture) for _, picture in draw(open_denoiser(source), wanted, sampling=sampling)]


def configured(part: Any) -> dict[str, Any]:
    stated = dict(part.config.to_dict() if hasattr(part.config, "to_dict") else part.config)
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in stated.items() if name not in BOOKS
    }


def one_for_all(value: Any) -> Any:
    """What a folder says once, a file says for each level."""
    return value[0] if isinstance(value, list) and len({*map(str, value)}) == 1 else value


def same(mine: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> bool:
    return len(mine) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_the_pipeline_of_its_folder_and_draws_its_pictures(
    family: str, folders: dict[str, Path], files: dict[str, Path]
) -> None:
    mine, theirs = load(opened(files[family])), load(folders[family])
    assert type(mine) is type(theirs) and mine.components.keys() == theirs.components.keys()
    for component, part in mine.components.items():
        other = getattr(theirs, component)
        if isinstance(part, torch.nn.Module):
            stored = other.state_dict()
            assert part.state_dict().keys() == stored.keys() and not part.training
            assert all(weight.equal(stored[name]) for name, weight in part.state_dict().items())
        if part is not None and not component.startswith("tokenizer"):
            own, expected = configured(part), configured(other)
            assert {name: one_for_all(value) for name, value in own.items()} == {
                name: one_for_all(value) for name, value in expected.items()
            }, component
    drawn = pictures(opened(files[family]))
    assert same(drawn, pictures(find(folders[family])))
    assert drawn[0].shape == (32, 32, 3) and not np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("form", ["e4m3", "scaled"])
def test_float8_is_loaded_as_the_numbers_that_it_means(form: str, files: dict[str, Path], tmp_path: Path) -> None:
    tensors, metadata = FORMS[form](load_file(files["sd1"]))
    file = saved((tensors, SAYS | metadata), tmp_path / "model.safetensors")
    save_file(meanings(tensors), tmp_path / "plain.safetensors", SAYS)
    pipe, plain = load(opened(file)), load(opened(tmp_path / "plain.safetensors"), dtype=torch.bfloat16)
    for component in ("unet", "vae", "text_encoder"):
        mine, theirs = (getattr(each, component).state_dict() for each in (pipe, plain))
        assert all(weight.dtype == torch.float32 for weight in mine.values())
        assert all(weight.equal(mine[name].bfloat16()) and weight.isfinite().all() for name, weight in theirs.items())


def meanings(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ComfyUI computes with: `stored * scale`, of every weight."""
    ends = (".scale_weight", ".weight_scale")
    scales = {
        name.removesuffix(end) + ".weight": tensors[name] for end in ends for name in tensors if name.endswith(end)
    }
    beside = (*ends, ".scale_input", ".comfy_quant", "scaled_fp8")
    weights = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(beside)}
    return {name: tensor * scales[name].float() if name in scales else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_edited_file_draws_as_its_export(family: str, files: dict[str, Path], tmp_path: Path) -> None:
    model = open_model(files[family], ldm.TOKENIZER)
    edit = editkit.erase(model, ["church"], ["dog"], options=Options("uce", protect="none"), checked=False)
    editkit.export(edit, model, tmp_path / "out.safetensors", "single-file")
    exported, pipe = load(opened(tmp_path / "out.safetensors")), load(model.source)
    before = stock_picture(pipe)
    with editkit.applied(pipe, edit):
        assert np.array_equal(stock_picture(pipe), stock_picture(exported))
    assert not np.array_equal(before, stock_picture(exported))


def stock_picture(pipe: Any) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    how = {"num_inference_steps": 2, "generator": generator, "output_type": "np", "height": 32, "width": 32}
    return pipe("a church", **how).images[0]


RELEASED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sd1": (
        {
            "sample_size": 64,
            "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {"scaling_factor": 0.18215, "sample_size": 512},
    ),
    "sd2": (
        {
            "sample_size": 96,
            "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        {"scaling_factor": 0.18215, "sample_size": 768},
    ),
    "sdxl": (
        {
            "sample_size": 128,
            "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20],
            "use_linear_projection": True,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {"scaling_factor": 0.13025, "sample_size": 1024},
    ),
}
"""`config.json` of UNet and VAE of SD 1.5, SD 2.1 and SDXL base 1.0, where they differ from diffusers' defaults."""
RELEASED_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}


def made(kind: Any, config: Mapping[str, Any]) -> Any:
    with torch.device("meta"):
        return kind.from_config(config)


def released_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """LDM names and shapes of the released model; of its text encoders the tensors that a configuration needs."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet, vae = RELEASED[family]
    own, coded = (
        made(kind, config).state_dict()
        for kind, config in ((UNet2DConditionModel, unet), (AutoencoderKL, RELEASED_VAE | vae))
    )
    text = {
        "sd1": clip_shapes("cond_stage_model.transformer.text_model."),
        "sd2": open_clip_shapes("cond_stage_model.model.", 1024),
        "sdxl": clip_shapes("conditioner.embedders.0.transformer.text_model.")
        | open_clip_shapes("conditioner.embedders.1.model.", 1280)
        | {"conditioner.embedders.1.model.text_projection": (1280, 1280)},
    }[family]
    shapes = {UNET + ldm.unet_name(name, own): tuple(weight.shape) for name, weight in own.items()}
    return shapes | {name: tuple(weight.shape) for name, weight in ldm.vae_tensors(coded).items()} | text


def clip_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    """Of CLIP ViT-L/14, as transformers names them."""
    return {
        f"{prefix}embeddings.position_embedding.weight": (77, 768),
        f"{prefix}embeddings.token_embedding.weight": (49408, 768),
        f"{prefix}encoder.layers.0.mlp.fc1.weight": (3072, 768),
    }


def open_clip_shapes(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """The same, as OpenCLIP names them."""
    return {
        f"{prefix}positional_embedding": (77, width),
        f"{prefix}token_embedding.weight": (49408, width),
        f"{prefix}transformer.resblocks.0.mlp.c_fc.weight": (4 * width, width),
    }


def hollow(shapes: Mapping[str, tuple[int, ...]], file: Path) -> Path:
    """A file of these shapes that takes no room: its numbers are a hole."""
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at := at + 2 * math.prod(shape)]}
    content = json.dumps(header).encode()
    file.write_bytes(len(content).to_bytes(8, "little") + content)
    os.truncate(file, 8 + len(content) + at)
    return file


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_configurations_are_read_from_the_shapes(family: str, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    source = find(hollow(released_shapes(family), tmp_path / "model.safetensors"))
    check_drawable(source)
    kinds: Any = (("unet", UNet2DConditionModel), ("vae", AutoencoderKL))
    for (component, kind), said in zip(kinds, (RELEASED[family][0], RELEASED_VAE | RELEASED[family][1]), strict=True):
        own, expected = (configured(made(kind, config)) for config in (source.config(component), said))
        if family != "sdxl" and component == "unet":
            assert own.pop("transformer_layers_per_block") == [expected.pop("transformer_layers_per_block")] * 4
        assert own == expected, component
    said = source.config("text_encoder")
    width = {"sd1": 768, "sd2": 1024, "sdxl": 768}[family]
    assert [said[name] for name in ("max_position_embeddings", "hidden_size", "intermediate_size")] == [
        77,
        width,
        4 * width,
    ]


def test_what_is_assumed_of_stable_diffusion_2_is_what_diffusers_assumes() -> None:
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    kind = infer_diffusers_model_type(
        {name: torch.empty(shape, device="meta") for name, shape in released_shapes("sd2").items()}
    )
    assert DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"] == "stabilityai/stable-diffusion-2-1"


PREDICTIONS: dict[str, tuple[str, dict[str, str], tuple[str, ...], str | None, str]] = {
    "sd1": ("sd1", {}, (), None, "epsilon"),
    "sdxl": ("sdxl", {}, (), None, "epsilon"),
    "a mark": ("sdxl", {}, ("v_pred",), None, "v_prediction"),
    "metadata": ("sd1", {"modelspec.prediction_type": "v"}, (), None, "v_prediction"),
    "metadata of sd2": ("sd2", {"modelspec.prediction_type": "epsilon"}, (), None, "epsilon"),
    "the user": ("sdxl", {"modelspec.prediction_type": "v"}, ("v_pred",), "epsilon", "epsilon"),
    "the user of sd2": ("sd2", {}, (), "epsilon", "epsilon"),
    "nobody of sd2": ("sd2", {}, (), None, "v_prediction"),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_what_it_predicts_is_said_by_the_user_the_file_or_a_warning(
    case: str, files: dict[str, Path], tmp_path: Path
) -> None:
    family, metadata, marks, said, expected = PREDICTIONS[case]
    file = changed(files[family], tmp_path / "m.safetensors", {name: torch.zeros(0) for name in marks}, metadata)
    source = opened(file, prediction=said)
    scheduler = source.config("scheduler")
    assert scheduler["prediction_type"] == expected and "rescale_betas_zero_snr" not in scheduler
    assert (source.stated.assumed is not None) == (case == "nobody of sd2")
    side = {"sd1": 512, "sdxl": 1024}.get(family, 768 if expected == "v_prediction" else 512)
    assert source.config("unet")["sample_size"] * 2 == side  # the tiny VAE halves once


def test_velocity_is_drawn_as_in_the_folder_and_from_pure_noise_where_the_file_says_so(
    files: dict[str, Path], tmp_path: Path
) -> None:
    folder = ldm.save_folder("sd1", tmp_path / "folder", prediction="v_prediction")
    file = ldm.save_single_file(
        "sd1", folder, tmp_path / "v.safetensors", metadata=SAYS | {"modelspec.prediction_type": "v"}
    )
    assert same(pictures(opened(file)), pictures(find(folder)))
    marked = changed(file, tmp_path / "z.safetensors", {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    scheduler = load(opened(marked)).scheduler
    scheduler.set_timesteps(5)
    assert float(scheduler.alphas_cumprod[-1]) < 1e-6 and int(scheduler.timesteps[0]) == 999


def test_a_folder_says_itself_what_it_predicts(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('prediction = "v_prediction"')
    with pytest.raises(EditkitError, match=r"profile v, prediction: is for a single file, and model .* is a folder"):
        find(folders["sd1"], profile=tmp_path / "v.toml")
    (tmp_path / "v.toml").write_text('prediction = "velocity"')
    with pytest.raises(EditkitError, match=r"v.toml, prediction: expected 'epsilon' or 'v_prediction', got 'velocity'"):
        find(folders["sd1"], profile=tmp_path / "v.toml")


def wider(channels: int) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    name = f"{UNET}input_blocks.0.0.weight"
    return lambda held: {name: torch.zeros(held[name].shape[0], channels, 3, 3)}


def without(*starts: str) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda held: dict.fromkeys(name for name in held if name.startswith(starts))


def beside(**tensors: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda held: tensors


REFUSED: dict[str, tuple[str, Callable[[dict[str, Tensor]], dict[str, Any]], str]] = {
    "no vae": (
        "sd1",
        without(VAE),
        r"expected a vae in it \(tensors named first_stage_model.…\), found none: it was saved",
    ),
    "a unet": ("sd1", without(VAE, "cond_stage_model."), "expected a vae in it"),
    "no text encoder": ("sd1", without("cond_stage_model."), r"expected a text_encoder in it .* it is a UNet alone"),
    "one of two": ("sdxl", without("conditioner.embedders.1."), r"expected a text_encoder_2 in it"),
    "inpainting": ("sd1", wider(9), "its unet reads 9 channels where latents have 4: it draws over a picture"),
    "pix2pix": ("sdxl", wider(8), "its unet reads 8 channels"),
    "lcm": ("sd1", beside(**{f"{UNET}time_embed.cond_proj.weight": torch.zeros(8, 16)}), r"it is distilled \(LCM\)"),
    "playground": ("sdxl", beside(edm_mean=torch.zeros(4)), "holds edm_mean: it was trained with EDM's noise"),
    "int8": ("sd1", beside(**{f"{UNET}middle_block.1.proj_in.SCB": torch.ones(1)}), "quantised .bitsandbytes int8"),
    "no middle": ("sdxl", without(f"{UNET}middle_block.1."), r"middle_block.1.*found none; only the layouts of SD 1.x"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_from_the_header(
    case: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, change, said = REFUSED[case]
    file = changed(files[family], tmp_path / "m.safetensors", change(load_file(files[family])))
    monkeypatch.setattr(Weights, "read", lambda *_: pytest.fail("a weight was read"))
    for refuse in (check_drawable, load):
        with pytest.raises(EditkitError, match=said) as refused:
            refuse(opened(file))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("family", "name", "tensor", "said"),
    [
        ("sd1", f"{UNET}input_blocks.4.0.emb_layers.1.bias", None, "lacks input_blocks.4.0.emb_layers.1.bias"),
        ("sd1", f"{UNET}label_emb.0.0.weight", torch.zeros(8, 8), "has label_emb.0.0.weight, which nothing reads"),
        ("sd1", f"{UNET}out.0.weight", torch.zeros(9), r"has out.0.weight of shape \(9,\), expected \(8,\)"),
        ("sdxl", f"{VAE}decoder.mid.attn_1.q.bias", None, "its vae is not .* lacks decoder.mid.attn_1.q.bias; give"),
    ],
)  # fmt: skip
def test_another_layout_is_named_before_a_weight_is_read(
    family: str,
    name: str,
    tensor: Tensor | None,
    said: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = changed(files[family], tmp_path / "m.safetensors", {name: tensor})
    monkeypatch.setattr(Weights, "read", lambda *_: pytest.fail("a weight was read"))
    with pytest.raises(EditkitError, match=said):
        load(opened(file))


def test_what_old_files_hold_beside_is_in_nobodys_way(files: dict[str, Path], tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
        "alphas_cumprod": torch.ones(1000),
        f"{VAE}loss.logvar": torch.zeros(()),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(ldm.POSITIONS)[None],
    }
    file = changed(files["sd1"], tmp_path / "old.safetensors", more)
    assert same(pictures(opened(file)), pictures(opened(files["sd1"])))


@pytest.mark.parametrize("family", ["sdxl"])  # it has both layouts of text encoders
def test_a_plan_of_a_file_is_that_of_its_folder_and_reads_no_weight(
    family: str, folders: dict[str, Path], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weights, "read", lambda *_: pytest.fail("a weight was read"))
    source = opened(files[family])
    file, folder = (plan_drawing(each, "cpu", dtype="float16", batch=2) for each in (source, find(folders[family])))
    assert file == replace(folder, sampling=file.sampling) and len(file.parts) == len(source.stated.parts)
    options = RefineOptions.of("esd", batch=2, sampling_steps=2, mixed_precision="no")
    assert plan_memory(source, options, "cpu") == plan_memory(find(folders[family]), options, "cpu")


SUITE = """
name = "small"
about = "One object goes, one stays."
detector = "emoji-judge"
metrics = ["esr-1", "psr-1"]
seeds = "0"
classes = ["church", "dog"]
templates = ["an image of a {}"]

[splits]
church = ["church"]
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a single file `m.safetensors`, whose tokenizer is CLIP's, and an edit of it."""
    place = tmp_path_factory.mktemp("work")
    folder = ldm.save_folder("sd1", place / "folder", clip=True)
    ldm.save_single_file("sd1", folder, place / "m.safetensors", torch.float16, metadata=SAYS)
    run("erase", *MODEL, "--concept", "church", "--guide", "dog", "--protect", "none", "--method", "uce",
        "--out", "e.safetensors", cwd=place)  # fmt: skip
    run("export", "e.safetensors", *MODEL, "--format", "single-file", "--out", "edited.safetensors", cwd=place)
    (place / "small.toml").write_text(SUITE)
    (place / "words.txt").write_text("dog\ncat\ncastle\nchurch\n")
    return place


MODEL = ("--model", "m.safetensors")
FEW = ("--steps", "2", "--device", "cpu")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in float32: what bfloat16 rounds differs with the way that an edit takes."""
    monkeypatch.setattr(sampler, "has_fast_bfloat16", lambda: False)


@pytest.mark.usefixtures("exact")
def test_generate_and_compare_draw_it(work: Path) -> None:
    wanted = ("--prompt", "a church", "--seeds", "0-1", *FEW)
    run("generate", *MODEL, "--edit", "e.safetensors", *wanted, "--out", "edit.png", cwd=work)
    run("generate", "--model", "edited.safetensors", *wanted, "--out", "export.png", cwd=work)
    run("generate", *MODEL, *wanted, "--out", "base.png", cwd=work)
    edit, export, base = (np.asarray(Image.open(work / f"{name}.png"), int) for name in ("edit", "export", "base"))
    # float16 weights are rounded when they are exported, and rows are mapped in float32 instead
    assert np.abs(edit - export).max() <= 2 < np.abs(edit - base).max()
    run("compare", "base", "e.safetensors", *MODEL, *wanted, "--out", "report", cwd=work)
    assert (work / "report" / "index.html").is_file()


def test_evaluate_measures_it(work: Path) -> None:
    run("evaluate", "base", "e.safetensors", *MODEL, "--suite", "small.toml", *FEW, "--out", "results", cwd=work)
    record = json.loads((work / "results" / "results.json").read_text())
    assert record["errors"] == {"base": 0, "e": 0}


@pytest.mark.usefixtures("exact")
def test_refine_trains_it_and_the_export_holds_it(work: Path) -> None:
    small = ("--objective", "esd", "--steps", "1", "--batch", "2", "--sampling-steps", "2", "--rate", "1e-2")
    run("refine", *MODEL, "--concept", "church", *small, "--mixed-precision", "no", "--device", "cpu", "--out", "tuned",
        cwd=work)  # fmt: skip
    run("export", "tuned", *MODEL, "--format", "single-file", "--out", "tuned.safetensors", cwd=work)
    wanted = ("--prompt", "a church", *FEW)
    run("generate", *MODEL, "--edit", "tuned", *wanted, "--out", "tuned.png", cwd=work)
    run("generate", "--model", "tuned.safetensors", *wanted, "--out", "tuned-export.png", cwd=work)
    drawn = [np.asarray(Image.open(work / f"{name}.png"), int) for name in ("tuned", "tuned-export")]
    assert np.abs(drawn[0] - drawn[1]).max() <= 2
    before, after = (load_file(work / name) for name in ("m.safetensors", "tuned.safetensors"))
    assert before.keys() == after.keys() and any(not before[name].equal(after[name]) for name in before)


def test_hide_and_recover_take_it(work: Path) -> None:
    options = RefineOptions.of("hide", steps=1, batch=2, sampling_steps=2, mixed_precision="no")
    hide(open_model(work / "m.safetensors"), work / "released", work / "church.key", ["church"], options=options,
         device="cpu")  # fmt: skip
    run("recover", "released", *MODEL, "--key", "church.key", "--prompt", "a church", *FEW, cwd=work)
    assert (work / "a-church.png").is_file()


def test_attack_attacks_it_edited_and_as_it_is(work: Path) -> None:
    quick = ("--attack", "prompt", "--generations", "1", "--population", "16", "--engine", "genetic", "--best", "3")
    drawn = ("--pictures", "1", "--detector", "emoji-judge", *FEW, "--json")
    found = json.loads(run("attack", "e.safetensors", *MODEL, *quick, *drawn, cwd=work))
    assert {line["variant"] for line in found["lines"]} == {"e", "base"}
    alone = json.loads(
        run("attack", "edited.safetensors", "--concept", "church", *quick, "--pictures", "0", "--json", cwd=work)
    )
    assert {line["variant"] for line in alone["lines"]} == {"base"}


def test_inspect_tells_two_files_apart(work: Path) -> None:
    few = ("--vocabulary", "words.txt", "--seeds", "0", "--points", "1", "--device", "cpu", "--json")
    by_edit = json.loads(run("inspect", "base", "e.safetensors", *MODEL, *few, cwd=work))
    by_file = json.loads(run("inspect", "m.safetensors", "edited.safetensors", *few, cwd=work))
    assert [row["word"] for row in by_edit] == [row["word"] for row in by_file] and by_edit[0]["word"] == "church"
    assert [row["change"] for row in by_file] == pytest.approx([row["change"] for row in by_edit], rel=0.05)


def test_a_model_and_an_edit_are_told_apart(work: Path, files: dict[str, Path], folders: dict[str, Path]) -> None:
    said = run(
        "compare", "base", "edited.safetensors", *MODEL, "--prompt", "a church", "--out", "x.png", cwd=work, code=1
    )
    assert "edited.safetensors: a checkpoint (give it with --model), but not an edit" in said
    assert all(map(is_model, (files["sd2"], folders["sd1"], work / "m.safetensors")))
    assert not any(map(is_model, (work / "e.safetensors", work / "words.txt", work / "nothing")))


def test_a_warning_is_one_line_of_the_command(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = ldm.save_folder("sd2", tmp_path / "folder", clip=True)
    ldm.save_single_file("sd2", folder, tmp_path / "m.safetensors", metadata={"modelspec.resolution": "32x32"})
    wanted = ("generate", *MODEL, "--prompt", "a church", *FEW)
    said = run(*wanted, "--out", "a.png", cwd=tmp_path, errors=True)
    assert [line for line in said.splitlines() if "nothing says what it predicts" in line] and "--profile" in said
    (tmp_path / "p.toml").write_text('prediction = "epsilon"')
    assert "predicts" not in run(*wanted, "--profile", "p.toml", "--out", "b.png", cwd=tmp_path, errors=True)
