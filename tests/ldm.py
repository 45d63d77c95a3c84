"""Tiny random Stable Diffusion pipelines in the real block layout, as diffusers folders and as single files.

The key map here goes the other way than the package's and covers every tensor. Stock `from_single_file` proves it.
What no shape shows, such as heads, activations and the noise, is as in the released models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from editkit.embeddings.clip_bpe import clip_tokenizer

POSITIONS = 24
NAMES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
TOKENIZER = Path(str(files("editkit.emoji") / "model" / "tokenizer"))


def save_folder(family: str, folder: Path, seed: int = 0, clip: bool = False, prediction: str = "epsilon") -> Path:
    """A tiny pipeline of the family as a diffusers folder; with CLIP's own tokenizer instead of the bundled model's."""
    import diffusers

    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "unet": _sdxl_unet() if family == "sdxl" else _sd_unet(linear=family == "sd2"),
        "vae": _vae(0.13025 if family == "sdxl" else 0.18215),
        "scheduler": _scheduler(prediction),
        "tokenizer": _tokenizer("!" if family == "sd2" else "<|endoftext|>", clip),
        "text_encoder": _text(64 if family == "sdxl" else 128, "gelu" if family == "sd2" else "quick_gelu", clip),
    }
    if family == "sdxl":
        parts |= {"tokenizer_2": _tokenizer("!", clip), "text_encoder_2": _text(128, "gelu", clip, projection=True)}
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    getattr(diffusers, NAMES[family])(**parts).save_pretrained(folder)
    return folder


def save_single_file(
    family: str,
    folder: Path,
    path: Path,
    dtype: torch.dtype = torch.float32,
    prefix: str = "model.diffusion_model.",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """The folder's weights as one file with LDM names. `prefix` stands before the UNet's."""
    unet = state(folder, "unet")
    tensors = {prefix + unet_name(name, unet): tensor for name, tensor in unet.items()}
    tensors |= vae_tensors(state(folder, "vae"))
    text = {name.removeprefix("text_model."): tensor for name, tensor in state(folder, "text_encoder").items()}
    if family == "sd1":
        tensors |= {f"cond_stage_model.transformer.text_model.{name}": tensor for name, tensor in text.items()}
    elif family == "sd2":
        tensors |= {
            f"cond_stage_model.model.{name}": tensor for name, tensor in _with_last_block(open_clip(text)).items()
        }
    else:
        tensors |= {f"conditioner.embedders.0.transformer.text_model.{name}": tensor for name, tensor in text.items()}
        second = {name.removeprefix("text_model."): tensor for name, tensor in state(folder, "text_encoder_2").items()}
        tensors |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in open_clip(second).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"modelspec.title": "tiny", **(metadata or {})}
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path, known)
    return path


def state(folder: Path, component: str) -> dict[str, Tensor]:
    """All tensors of a component as they lie on the disk."""
    from safetensors.torch import load_file

    (path,) = (folder / component).glob("*.safetensors")
    return load_file(path)


_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_name(name: str, names: Iterable[str]) -> str:
    """The LDM name of a tensor among the `names` of a UNet with two blocks a level."""
    module, kind = name.rsplit(".", 1)
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        at = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{at}.{_inner(match[1], match[3])}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert match, name
    way, level, part, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if part == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op.{kind}"
    if part == "upsamplers":
        behind = 2 if any(other.startswith(f"up_blocks.{level}.attentions.") for other in names) else 1
        return f"output_blocks.{3 * level + 2}.{behind}.conv.{kind}"
    at = f"input_blocks.{1 + 3 * level + layer}" if way == "down" else f"output_blocks.{3 * level + layer}"
    return f"{at}.{1 if part == 'attentions' else 0}.{_inner(part, rest)}"


def _inner(part: str, rest: str) -> str:
    if part == "attentions":
        return rest
    module, kind = rest.rsplit(".", 1)
    return f"{_RESNET[module]}.{kind}"


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`AutoencoderKL` tensors with LDM names."""
    levels = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.down_blocks."))
    renamed = {}
    for name, tensor in tensors.items():
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda at: f"up.{levels - 1 - int(at[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda at: f"up.{levels - 1 - int(at[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda at: f"mid.block_{1 + int(at[1])}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = re.sub(r"to_([qkv])\.", r"\1.", new).replace("to_out.0", "proj_out")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        renamed[f"first_stage_model.{new}"] = tensor
    return renamed


def open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`CLIPTextModel` tensors with OpenCLIP's names."""
    ends = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    renamed = {new: tensors[old] for old, new in ends.items()}
    for name, tensor in tensors.items():
        at = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if at and at[2] in parts:
            renamed[f"transformer.resblocks.{at[1]}.{parts[at[2]]}.{at[3]}"] = tensor
        elif at and at[2] == "self_attn.q_proj":
            three = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            renamed[f"transformer.resblocks.{at[1]}.attn.in_proj_{at[3]}"] = torch.cat(three)
    if "text_projection.weight" in tensors:
        renamed["text_projection"] = tensors["text_projection.weight"].T
    renamed["logit_scale"] = torch.tensor(4.6)
    return renamed


def _with_last_block(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The block that the pipeline does not run, and the projection after it, which released files of SD 2.x have."""
    last = max(int(name.split(".")[2]) for name in tensors if name.startswith("transformer."))
    more = {
        name.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): torch.randn_like(tensor)
        for name, tensor in tensors.items()
        if f"resblocks.{last}." in name
    }
    width = tensors["ln_final.weight"].shape[0]
    return tensors | more | {"text_projection": torch.randn(width, width)}


def _scheduler(prediction: Any) -> Any:
    import diffusers

    noise: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    noise |= {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    return diffusers.DDIMScheduler(**noise, prediction_type=prediction)


def _tokenizer(pad_token: str, clip: bool = False) -> Any:
    from transformers import CLIPTokenizer

    if clip:
        return clip_tokenizer(pad_token)
    return CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=pad_token)


def _text(width: int, activation: str, clip: bool, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(_tokenizer("!", clip)),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        max_position_embeddings=POSITIONS,
        hidden_act=activation,
        projection_dim=width - 32 if projection else width,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    model = CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)
    with torch.no_grad():
        for weight in model.parameters():  # biases and norms too: their new values would hide a mix-up
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def _sd_unet(linear: bool) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16, 16),
        cross_attention_dim=128,
        attention_head_dim=1 if linear else 8,
        norm_num_groups=8,
        use_linear_projection=linear,
        upcast_attention=linear,
    )


def _sdxl_unet() -> Any:
    from diffusers import UNet2DConditionModel

    depths: Any = (1, 2, 3)
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 16),
        transformer_layers_per_block=depths,
        cross_attention_dim=64 + 128,
        attention_head_dim=1,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=96 + 6 * 8,
    )


def _vae(scaling: float) -> Any:
    from diffusers import AutoencoderKL

    sizes: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
    }
    return AutoencoderKL(**sizes, layers_per_block=2, norm_num_groups=8, sample_size=32, scaling_factor=scaling)
