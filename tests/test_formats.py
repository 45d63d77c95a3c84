"""What stock libraries draw with an exported edit is what editkit draws with the edit in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import editkit
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.model.checkpoints.ldm_names import POOLED, to_ldm
from editkit.model.formats import diffusers_folder, kohya, kv, lora, single_file
from tests import ldm

FAMILIES = ("sd1", "sd2", "sdxl")
MODELS = ("emoji", *FAMILIES)


@dataclass(frozen=True)
class Case:
    """A model on the disk, an edit of it, and the pictures before and after."""

    family: str
    folder: Path
    file: Path | None
    edit: Edit

    @cached_property
    def projections(self) -> dict[str, Tensor]:
        wanted = (".attn2.to_k.weight", ".attn2.to_v.weight")
        unet = ldm.state(self.folder, "unet")
        return {name: tensor for name, tensor in unet.items() if name.endswith(wanted) or name == POOLED}

    def load(self, folder: Path | None = None) -> Any:
        from diffusers import DiffusionPipeline

        pipe: Any = DiffusionPipeline.from_pretrained(folder or self.folder)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @property
    def rounding(self) -> float:
        """Of files in the dtype of the weights on the disk, where pipelines are drawn with in float32."""
        return 1e-2 if next(iter(self.projections.values())).dtype == torch.float16 else 0.0

    @cached_property
    def before(self) -> Tensor:
        return draw(self.load())

    @cached_property
    def after(self) -> Tensor:
        pipe = self.load()
        with editkit.applied(pipe, self.edit):
            return draw(pipe)

    def check(self, picture: Tensor, within: float = 0.0) -> None:
        """`picture` is the edited one, up to a part of what the edit changes."""
        change = float((self.after - self.before).abs().max())
        assert change > 0.01
        assert float((picture - self.after).abs().max()) <= within * change


def draw(pipe: Any) -> Tensor:
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    options = {"num_inference_steps": 2, "generator": torch.manual_seed(0), "output_type": "np"}
    return torch.tensor(pipe("a church", height=size, width=size, **options).images)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    root = tmp_path_factory.mktemp("formats")
    bundled = Path(str(files("editkit.emoji") / "model"))
    return {"emoji": case("sd1", bundled, None)} | {
        family: case(family, (folder := ldm.save_folder(family, root / family)), folder.with_suffix(".safetensors"))
        for family in FAMILIES
    }


def case(family: str, folder: Path, file: Path | None) -> Case:
    options = Options("uce", protect="none", tokens="all", lamb=0.01)
    edit = editkit.erase(editkit.open_model(folder), ["church"], ["a dog"], options=options, checked=False)
    if file is not None:
        ldm.save_single_file(family, folder, file)
    return Case(family, folder, file, edit)


@pytest.mark.parametrize("name", MODELS)
def test_kv(name: str, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases[name]
    kv.write(case.edit, case.projections, tmp_path / "kv.safetensors")
    pipe, weights = case.load(), load_file(tmp_path / "kv.safetensors")
    unexpected = pipe.unet.load_state_dict(weights, strict=False).unexpected_keys
    assert not unexpected and set(weights) == set(case.projections)
    case.check(draw(pipe), case.rounding)


@pytest.mark.parametrize("name", MODELS)
def test_diffusers_folder(name: str, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases[name]
    assert (
        diffusers_folder.write(case.edit, case.projections, case.folder, ["unet"], tmp_path / "edited").left_out == ()
    )
    case.check(draw(case.load(tmp_path / "edited")), case.rounding)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_file(family: str, cases: dict[str, Case], tmp_path: Path) -> None:
    import diffusers

    case = cases[family]
    assert case.file is not None
    part = tmp_path / "edited.safetensors"
    single_file.write(case.edit, case.projections, case.file, part, family)
    stock = getattr(diffusers, ldm.NAMES[family])
    pipe = stock.from_single_file(str(part), config=str(case.folder), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    case.check(draw(pipe))


def write_lora(case: Case, part: Path, rank: int | None = None) -> float:
    return lora.write(case.edit, case.projections, part, rank=rank)


def write_kohya(case: Case, part: Path, rank: int | None = None) -> float:
    return kohya.write(case.edit, case.projections, part, case.family, rank)


@pytest.mark.parametrize("write", [write_lora, write_kohya])
@pytest.mark.parametrize("name", MODELS)
def test_lora(write: Callable[..., float], name: str, cases: dict[str, Case], tmp_path: Path) -> None:
    case, pipe = cases[name], cases[name].load()
    assert write(case, tmp_path / "pytorch_lora_weights.safetensors") < 1e-7
    pipe.load_lora_weights(tmp_path / "pytorch_lora_weights.safetensors")
    case.check(draw(pipe), within=1e-3)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(tmp_path)  # a folder with the name that diffusers looks for
    pipe.fuse_lora()
    case.check(draw(pipe), within=1e-3)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert draw(pipe).sub(case.before).abs().max() < 1e-4


def test_lora_of_a_transformer(tmp_path: Path) -> None:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    wide: Any = {"in_channels": 4, "joint_attention_dim": 32, "pooled_projection_dim": 24, "axes_dims_rope": (4, 4, 8)}
    model = FluxTransformer2DModel(**sizes, **wide)
    names = ("context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight")
    projections = {name: weight.detach() for name, weight in model.named_parameters() if name in names}
    edit = Edit({name: random_map(W.shape[1], 2 + at) for at, (name, W) in enumerate(projections.items())})
    inputs = {
        "hidden_states": torch.randn(1, 6, 4),
        "encoder_hidden_states": torch.randn(1, 5, 32),
        "pooled_projections": torch.randn(1, 24),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(6, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    assert lora.write(edit, projections, tmp_path / "lora.safetensors", prefix="transformer") < 1e-7
    with torch.no_grad():
        before = model(**inputs).sample
        pipe: Any = FluxPipeline(*[None] * 6, transformer=model)  # pyright: ignore
        pipe.load_lora_weights(tmp_path / "lora.safetensors")
        by_lora = model(**inputs).sample
        pipe.unload_lora_weights()
        model.load_state_dict(edit.weights(projections), strict=False)
        after = model(**inputs).sample
    assert (by_lora - after).abs().max() < 1e-3 * (after - before).abs().max()


def random_map(width: int, rank: int) -> EditMap:
    return EditMap(*(torch.randn(shape, dtype=torch.float64) / width for shape in ((width, rank), (rank, width))))


@pytest.mark.parametrize("name", ["emoji", "sdxl"])
def test_a_lower_rank_makes_the_least_error_and_tells_it(name: str, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases[name]
    whole = {key: W.double() for key, W in case.projections.items()}
    deltas = {key: after - whole[key] for key, after in case.edit.weights(whole).items()}
    told = [write_lora(case, tmp_path / "lora.safetensors", rank) for rank in (1, 2, 4)]
    assert told == sorted(told, reverse=True) and 0.01 < told[0] < 1
    assert write_kohya(case, tmp_path / "kohya.safetensors", 4) == told[-1]
    made, best = {}, {}
    weights = load_file(tmp_path / "lora.safetensors")
    for key, delta in deltas.items():
        down, up = (weights[f"unet.{key.removesuffix('weight')}lora_{side}.weight"].double() for side in "AB")
        assert down.shape[0] == 4 and up.shape[1] == 4
        made[key] = float((up @ down - delta).norm() / delta.norm())
        best[key] = float(torch.linalg.svdvals(delta)[4:].norm() / delta.norm())
    assert max(made.values()) == pytest.approx(told[-1], rel=1e-4)
    assert made == pytest.approx(best, rel=1e-3, abs=1e-6)


def test_factors_are_balanced_so_that_half_precision_holds_them(cases: dict[str, Case]) -> None:
    layers, _ = lora.factors(cases["sdxl"].edit, cases["sdxl"].projections)
    for layer in layers.values():
        whole, half = layer.up @ layer.down, layer.up.half().float() @ layer.down.half().float()
        assert (whole - half).norm() < 2e-3 * whole.norm()
        assert torch.allclose(layer.up.norm(dim=0), layer.down.norm(dim=1), rtol=1e-4, atol=1e-9)


def test_kohya_names_are_those_of_its_own_files(cases: dict[str, Case], tmp_path: Path) -> None:
    for family in FAMILIES:
        write_kohya(cases[family], tmp_path / "kohya.safetensors")
        names = set(load_file(tmp_path / "kohya.safetensors"))
        modules = {name.split(".")[0] for name in names}
        assert names == {f"{module}.{part}" for module in modules for part in PARTS}
        edited = [name for name in cases[family].projections if cases[family].edit.map_for(name)]
        own = [to_ldm(name, family) for name in edited] if family == "sdxl" else edited
        assert modules == {"lora_unet_" + name.removesuffix(".weight").replace(".", "_") for name in own}
    assert "lora_unet_label_emb_0_0" in modules
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k" in modules
    with safe_open(tmp_path / "kohya.safetensors", framework="pt") as opened:
        rank = opened.get_tensor("lora_unet_label_emb_0_0.lora_down.weight").shape[0]
        assert float(opened.get_tensor("lora_unet_label_emb_0_0.alpha")) == rank
        said: Mapping[str, str] = opened.metadata()
    assert said["ss_base_model_version"] == "sdxl_base_v1-0" and said["ss_network_dim"] == str(rank)


PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def test_what_no_lora_can_say(cases: dict[str, Case], tmp_path: Path) -> None:
    case, part = cases["sd1"], tmp_path / "lora.safetensors"
    with pytest.raises(EditkitError, match="--rank: expected at least 1, got 0; leave it out for an exact file"):
        write_lora(case, part, 0)
    with pytest.raises(EditkitError, match="family must be one of sd1, sd2, sdxl, sd3, flux1, but got 'chroma'; use"):
        kohya.write(case.edit, case.projections, part, "chroma")
    with pytest.raises(EditkitError, match="changes none of this model's projections"):
        lora.write(Edit({"elsewhere": random_map(128, 1)}), case.projections, part)
    with pytest.raises(EditkitError, match="changes none of this model's projections"):
        lora.write(Edit({"*": EditMap.identity(128)}), case.projections, part)
    with pytest.raises(EditkitError, match="edit is for embeddings of width 64, the model has 128"):
        lora.write(Edit({"*": random_map(64, 1)}), case.projections, part)
    assert not part.exists()
