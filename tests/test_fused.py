"""LoRAs of SD3 and FLUX.1 with the names of kohya's sd-scripts are the same changes, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.edits.low_rank import LowRank
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.model.formats import kohya
from editkit.model.formats.fused import place
from tests.refined_families import FAMILIES, probe, run_of, stock

SD3: dict[str, Any] = {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 3, "num_attention_heads": 2,
    "attention_head_dim": 8, "caption_projection_dim": 16, "joint_attention_dim": 24, "pooled_projection_dim": 12,
    "qk_norm": "rms_norm", "dual_attention_layers": (0,),
}  # fmt: skip
FLUX: dict[str, Any] = {
    "num_layers": 2, "num_single_layers": 2, "num_attention_heads": 24, "attention_head_dim": 128,
    "joint_attention_dim": 24, "pooled_projection_dim": 12, "in_channels": 8, "guidance_embeds": True,
}  # fmt: skip
"""As wide as FLUX.1 is: diffusers' conversion knows no other width."""
PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def weights_of(network: nn.Module, left_out: str = "nothing") -> dict[str, Tensor]:
    """Shapes of every layer that a LoRA can be on."""
    layers = (pair for pair in network.named_modules() if isinstance(pair[1], nn.Linear | nn.Conv2d))
    return {f"{name}.weight": layer.weight for name, layer in layers if left_out not in name}  # pyright: ignore


def random_tuned(weights: Mapping[str, Tensor], rank: int = 2) -> Tuned:
    made = torch.Generator().manual_seed(0)
    factors = {
        name: LowRank(torch.randn(len(W), rank, generator=made), torch.randn(rank, W.shape[1:].numel(), generator=made))
        for name, W in weights.items()
    }
    return Tuned({}, factors, {})


def change(down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    return up.flatten(1).double() @ (down.flatten(1).double() @ x)


def on_all(width: int) -> Tensor:
    return torch.randn(width, 3, generator=torch.Generator().manual_seed(width), dtype=torch.float64)


def network_of(kind: str, config: Mapping[str, Any]) -> nn.Module:
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, kind)(**config)


@pytest.mark.parametrize("left_out", ["nothing", "to_q", "proj_mlp", "add_q"])
def test_diffusers_finds_every_change_in_the_file_of_a_flux(left_out: str, tmp_path: Path) -> None:
    """Of every layer, on any input, by diffusers' own conversion; also where some of what is fused is not there."""
    from diffusers.loaders import lora_conversion_utils

    weights = weights_of(network_of("FluxTransformer2DModel", FLUX), left_out)
    tuned = random_tuned(weights)
    assert kohya.write(tuned, weights, tmp_path / "lora.safetensors", "flux1") < 1e-7
    file = load_file(tmp_path / "lora.safetensors")
    assert file["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"].shape[0] == 3 * 3072
    assert file["lora_unet_single_blocks_1_linear1.lora_up.weight"].shape[0] == 7 * 3072
    convert: Any = lora_conversion_utils._convert_kohya_flux_lora_to_diffusers  # pyright: ignore
    converted = convert(dict(file))
    outside = {name for name in weights if "transformer_blocks" not in name}  # which its pipeline then does not find
    assert {key.split(".lora")[0] + ".weight" for key in converted if not key.startswith("transformer.")} == outside
    theirs = {key.removeprefix("transformer."): value for key, value in converted.items()}
    found = {key.removesuffix(".lora_A.weight") for key in theirs if key.endswith(".lora_A.weight")}
    assert {name.removesuffix(".weight") for name in weights} <= found
    for name in found:
        down, up = (theirs[f"{name}.lora_{side}.weight"] for side in "AB")
        x = on_all(down.shape[1])
        mine = tuned.factors.get(f"{name}.weight")
        wanted = torch.zeros(len(up), 3, dtype=torch.float64) if mine is None else change(mine.down, mine.up, x)
        assert (change(down, up, x) - wanted).abs().max() <= 1e-5 * wanted.abs().max(), name


def checkpoint_layers() -> dict[str, tuple[int, ...]]:
    """What an SD3 checkpoint of its makers holds, told by hand: layer → shape of its weight."""
    width = SD3["num_attention_heads"] * SD3["attention_head_dim"]
    layers: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, 4, 2, 2),
        "context_embedder": (width, 24),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "y_embedder.mlp.0": (width, 12),
        "y_embedder.mlp.2": (width, width),
        "final_layer.linear": (16, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for block in range(SD3["num_layers"]):
        for side in ("x", "context"):
            at, last = f"joint_blocks.{block}.{side}_block", side == "context" and block == SD3["num_layers"] - 1
            twice = side == "x" and block in SD3["dual_attention_layers"]
            layers[f"{at}.attn.qkv"] = (3 * width, width)
            layers[f"{at}.adaLN_modulation.1"] = ((2 if last else 9 if twice else 6) * width, width)
            if twice:
                layers[f"{at}.attn2.qkv"], layers[f"{at}.attn2.proj"] = (3 * width, width), (width, width)
            if not last:
                layers[f"{at}.attn.proj"] = (width, width)
                layers[f"{at}.mlp.fc1"], layers[f"{at}.mlp.fc2"] = (4 * width, width), (width, 4 * width)
    return layers


def test_the_file_of_an_sd3_changes_its_makers_checkpoint_as_the_edit_changes_diffusers(tmp_path: Path) -> None:
    """Strength times `alpha / rank` times `up @ down` on all layers of a checkpoint, which diffusers then converts."""
    from diffusers.loaders import single_file_utils

    weights = weights_of(network_of("SD3Transformer2DModel", SD3))
    tuned, zeros = random_tuned(weights), {name: torch.zeros(W.shape) for name, W in weights.items()}
    kohya.write(tuned, weights, tmp_path / "lora.safetensors", "sd3")
    file = load_file(tmp_path / "lora.safetensors")
    layers = checkpoint_layers()
    assert {name.split(".")[0] for name in file} == {f"lora_unet_{name.replace('.', '_')}" for name in layers}
    wanted = tuned.weights(zeros)
    for strength in (-1.0, 0.5, 2.0):
        checkpoint = {"pos_embed": torch.zeros(1, 16, 16)}
        for layer, shape in layers.items():
            down, up, alpha = (file[f"lora_unet_{layer.replace('.', '_')}.{part}"] for part in PARTS)
            checkpoint[f"{layer}.weight"] = (strength * alpha / len(down) * up.flatten(1) @ down.flatten(1)).view(shape)
            checkpoint[f"{layer}.bias"] = torch.zeros(shape[0])
            if layer.endswith("qkv"):
                for side in "qk":
                    checkpoint[f"{layer.removesuffix('qkv')}ln_{side}.weight"] = torch.ones(8)
        converted = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(checkpoint)
        assert {name for name in converted if name.endswith("weight") and ".norm_" not in name} == wanted.keys()
        for name, W in wanted.items():
            assert torch.allclose(converted[name], strength * W, rtol=1e-5, atol=1e-5), name


def test_a_refined_flux_is_loaded_by_the_stock_pipeline_at_any_strength(
    tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    """Both forms of the file predict the same: that with fused layers, and that with diffusers' own."""
    folder, s = tiny_streams("flux1"), FAMILIES["flux1"]
    tuned = run_of("flux1", folder, tmp_path / "run", objective="esd", param="lora:2", rate=1e-1)
    pipe, shape = stock(folder), open_denoiser(folder).latent_shape(s.pixels)
    before = probe(s, pipe, pipe.transformer, shape)
    for form in ("lora", "kohya"):
        editkit.export(tuned, open_model(folder), tmp_path / f"{form}.safetensors", form)
        pipe.load_lora_weights(tmp_path, weight_name=f"{form}.safetensors", adapter_name=form)
    for strength in (-1.0, 0.5, 2.0):
        said = []
        for form in ("lora", "kohya"):
            pipe.set_adapters(form, strength)
            said.append(probe(s, pipe, pipe.transformer, shape))
        assert 0 < (said[0] - before).abs().max() > 1e4 * (said[0] - said[1]).abs().max()


@pytest.mark.parametrize(
    ("name", "layers"), [("sd3", ("context_embedder", "y_embedder_mlp_0")), ("flux1", ("txt_in", "vector_in_in_layer"))]
)
def test_a_closed_form_edit_is_written_with_those_names(
    name: str, layers: tuple[str, str], tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    model = open_model(tiny_streams(name))
    options = Options("uce", protect="none", lamb=1e-3)
    edit = editkit.erase(model, ["church"], ["dog"], options=options, checked=False)
    assert editkit.export(edit, model, tmp_path / "kohya.safetensors", "kohya").error < 1e-6
    file, own = load_file(tmp_path / "kohya.safetensors"), model.projections
    assert {key.split(".")[0] for key in file} == {f"lora_unet_{layer}" for layer in layers}
    for (key, after), layer in zip(sorted(edit.weights(own).items()), layers, strict=True):
        down, up, alpha = (file[f"lora_unet_{layer}.{part}"] for part in PARTS)
        made = (alpha / len(down) * up @ down).double()
        assert (made - (after.double() - own[key].double())).norm() < 1e-4 * made.norm() > 0
    with safe_open(tmp_path / "kohya.safetensors", framework="pt") as opened:
        assert opened.metadata()["ss_base_model_version"] == name


def test_a_layer_that_was_never_published_is_refused() -> None:
    with pytest.raises(EditkitError, match=r"attn\.to_elsewhere: no layer of the published sd3 network; export with"):
        place("transformer_blocks.0.attn.to_elsewhere", "sd3", 4, 4)
