"""A tiny random denoiser of every family, built offline from its class, and a way to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed, get_2d_rotary_pos_embed_lumina
from torch import Tensor, nn

from editkit.model.families.family import Family
from editkit.model.families.table import by_name

TOKENS = 4
"""Tokens of a prompt, from each text encoder where two are joined in one sequence."""


@dataclass(frozen=True)
class Text:
    """What the encoders give for a prompt: tokens `(1, n, d)`, a pooled vector `(1, p)`, a second encoder's tokens."""

    tokens: Tensor
    pooled: Tensor | None = None
    second: Tensor | None = None


@dataclass(frozen=True)
class Noise:
    """A latent `(1, ...)` and its timestep `(1,)`."""

    latent: Tensor
    timestep: Tensor


Arguments = dict[str, Any]


def _nothing(_model: Any, _noise: Noise, _text: Text) -> Arguments:
    return {}


@dataclass(frozen=True)
class Tiny:
    """One model.

    Attributes:
        name: of the family, or of a variant of it.
        config: of the tiny model, on top of the defaults of its class.
        released: of the released model, likewise.
        more: what the denoiser's `forward` is given besides latent, timestep and tokens.
        latent: shape, without batch.
        pooled, second: widths of the pooled text and of the second encoder; 0 where there is none.
        times: two timesteps, on the scale of the family's pipeline.
        variant_of: the family, where `name` is not it.
    """

    name: str
    config: Arguments
    released: Arguments
    more: Callable[[Any, Noise, Text], Arguments] = _nothing
    latent: tuple[int, ...] = (4, 8, 8)
    pooled: int = 0
    second: int = 0
    times: tuple[float, float] = (0.25, 0.75)
    variant_of: str = ""

    @property
    def family(self) -> Family:
        return by_name(self.variant_of or self.name)

    def build(self) -> nn.Module:
        """The model in float64. Ones and zeros of norms and gates become random: as they are, a norm of its own layer
        would look like the next layer's, and a closed gate would keep the prompt out."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(diffusers, self.family.denoiser)(**self.config)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.unique().numel() == 1:
                        parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model.double().eval()

    def build_released(self, **more: Any) -> nn.Module:
        """The released architecture, without memory for its weights."""
        with torch.device("meta"):
            return getattr(diffusers, self.family.denoiser)(**self.released | more)

    def noise(self, which: int) -> Noise:
        """One of two latents with its timestep."""
        return Noise(_randn(100 + which, *self.latent), torch.tensor([self.times[which]], dtype=torch.float64))

    def text(self, which: int) -> Text:
        """The embeddings of some prompt."""
        pooled = _randn(200 + which, self.pooled) if self.pooled else None
        second = _randn(300 + which, TOKENS, self.second) if self.second else None
        return Text(_randn(400 + which, TOKENS, 24), pooled, second)

    @torch.no_grad()
    def draw(self, model: Any, noise: Noise, text: Text) -> Tensor:
        """The denoiser's output."""
        more = self.more(model, noise, text)
        given = {"timestep": noise.timestep, "encoder_hidden_states": text.tokens, "return_dict": False}
        return model(noise.latent, **given, **more)[0]


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@contextmanager
def inputs_of(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Records what every linear module is given while the context lasts: module name → input of each call."""
    seen: dict[str, list[Tensor]] = {}

    def record(name: str) -> Callable[..., None]:
        return lambda _module, given: seen.setdefault(name, []).append(given[0].detach().clone())

    hooks = [module.register_forward_pre_hook(record(name)) for name, module in linears(model).items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def _mask(tokens: Tensor) -> Tensor:
    return torch.ones(tokens.shape[:2], dtype=torch.long)


def _sdxl(_model: Any, _noise: Noise, text: Text) -> Arguments:
    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])
    return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": sizes}}


def _pooled(_model: Any, _noise: Noise, text: Text) -> Arguments:
    return {"pooled_projections": text.pooled}


def _flux(model: Any, noise: Noise, text: Text) -> Arguments:
    """Rows and columns of a picture of 4 × 4; a guidance where the model takes one, a pooled text likewise."""
    axes, count = len(model.config.axes_dims_rope), noise.latent.shape[1]
    picture = torch.zeros(count, axes)
    picture[:, 1], picture[:, 2] = torch.arange(count) // 4, torch.arange(count) % 4
    more: Arguments = {"img_ids": picture, "txt_ids": torch.zeros(TOKENS, axes)}
    if model.config.get("guidance_embeds"):
        more["guidance"] = torch.tensor([3.5])
    return more if text.pooled is None else more | {"pooled_projections": text.pooled}


def _cogview4(_model: Any, _noise: Noise, _text: Text) -> Arguments:
    size, corner = torch.tensor([[64.0, 64.0]]), torch.tensor([[0.0, 0.0]])
    return {"original_size": size, "target_size": size, "crop_coords": corner}


def _ltx(_model: Any, _noise: Noise, text: Text) -> Arguments:
    return {"num_frames": 1, "height": 4, "width": 4, "encoder_attention_mask": _mask(text.tokens)}


def _qwenimage(_model: Any, _noise: Noise, _text: Text) -> Arguments:
    return {"img_shapes": [[(1, 4, 4)]]}


def _hunyuandit(model: Any, _noise: Noise, text: Text) -> Arguments:
    return {
        "text_embedding_mask": _mask(text.tokens),
        "encoder_hidden_states_t5": text.second,
        "text_embedding_mask_t5": torch.ones(1, TOKENS, dtype=torch.long),
        "image_meta_size": torch.tensor([[64.0, 64.0, 64.0, 64.0, 0.0, 0.0]]),
        "style": torch.tensor([0]),
        "image_rotary_emb": get_2d_rotary_pos_embed(model.config.attention_head_dim, ((0, 0), (4, 4)), (4, 4)),
    }


def _lumina(model: Any, _noise: Noise, text: Text) -> Arguments:
    turns = get_2d_rotary_pos_embed_lumina(model.head_dim, 8, 8)
    return {"encoder_mask": _mask(text.tokens), "image_rotary_emb": turns, "cross_attention_kwargs": {}}


def _lumina2(_model: Any, _noise: Noise, text: Text) -> Arguments:
    return {"encoder_attention_mask": _mask(text.tokens).bool()}


STEPS = (250.0, 750.0)
_HEADS: Arguments = {"num_attention_heads": 2, "attention_head_dim": 16}
_SMALL: Arguments = _HEADS | {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 2}
_UNET: Arguments = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
}
_SDXL: Arguments = {
    "addition_embed_type": "text_time",
    "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1280 + 6 * 256,
}
_TINY_SDXL = _SDXL | _UNET | {
    "transformer_layers_per_block": (2, 1),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}  # fmt: skip
_SD3: Arguments = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536}
_TINY_SD3 = _SMALL | {"joint_attention_dim": 24, "caption_projection_dim": 32, "pooled_projection_dim": 16}
_FLUX = _HEADS | {"in_channels": 8, "num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 24}
_ROPE: Arguments = {"axes_dims_rope": (4, 6, 6)}
_CAPTION: Arguments = {"cross_attention_dim": 32, "caption_channels": 24}
_HUNYUANDIT: Arguments = {"in_channels": 4, "patch_size": 2}
_LUMINA: Arguments = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 8}

TINY = (
    Tiny("sd1", _UNET, {"cross_attention_dim": 768}, times=STEPS),
    Tiny(
        "sd2", _UNET | {"use_linear_projection": True},
        {"cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": (5, 10, 20, 20)},
        times=STEPS,
    ),
    Tiny("sdxl", _TINY_SDXL, _SDXL, _sdxl, pooled=16, times=STEPS),
    Tiny("sd3", _TINY_SD3, _SD3, _pooled, pooled=16, times=STEPS),
    Tiny(
        "sd3.5", _TINY_SD3 | {"dual_attention_layers": (0,), "qk_norm": "rms_norm"},
        _SD3 | {"dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm"},
        _pooled, pooled=16, times=STEPS, variant_of="sd3",
    ),
    Tiny(
        "flux1", _FLUX | _ROPE | {"pooled_projection_dim": 16, "guidance_embeds": True}, {"guidance_embeds": True},
        _flux, (16, 8), pooled=16,
    ),
    Tiny("flux2", _FLUX | {"axes_dims_rope": (4, 4, 4, 4)}, {}, _flux, (16, 8)),
    Tiny("chroma", _FLUX | _ROPE | {"approximator_hidden_dim": 32, "approximator_layers": 1}, {}, _flux, (16, 8)),
    Tiny(
        "auraflow",
        _HEADS | {
            "sample_size": 8, "num_mmdit_layers": 2, "num_single_dit_layers": 2, "joint_attention_dim": 24,
            "caption_projection_dim": 32, "pos_embed_max_size": 16,
        },
        {},
    ),
    Tiny(
        "cogview4", _SMALL | {"text_embed_dim": 24, "time_embed_dim": 16, "condition_dim": 8}, {}, _cogview4,
        times=STEPS,
    ),
    Tiny("pixart", _SMALL | _CAPTION, {"caption_channels": 4096}, times=STEPS),
    Tiny(
        "sana", _SMALL | _CAPTION | {"num_cross_attention_heads": 2, "cross_attention_head_dim": 16}, {}, times=STEPS
    ),
    Tiny(
        "ltx", _HEADS | _CAPTION | {"in_channels": 8, "out_channels": 8, "num_layers": 2}, {}, _ltx, (16, 8),
        times=STEPS,
    ),
    Tiny(
        "wan",
        {
            "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "num_layers": 2,
            "text_dim": 24, "ffn_dim": 32,
        },
        {}, latent=(4, 1, 8, 8), times=STEPS,
    ),
    Tiny(
        "qwenimage",
        _HEADS | _ROPE | {"in_channels": 8, "out_channels": 2, "num_layers": 2, "joint_attention_dim": 24},
        {}, _qwenimage, (16, 8),
    ),
    Tiny(
        "hunyuandit",
        _HEADS | _HUNYUANDIT | {
            "sample_size": 8, "hidden_size": 32, "num_layers": 4, "cross_attention_dim": 24,
            "cross_attention_dim_t5": 16, "pooled_projection_dim": 16, "text_len": TOKENS, "text_len_t5": TOKENS,
        },
        _HUNYUANDIT | {"hidden_size": 1408, "num_layers": 40, "use_style_cond_and_image_meta_size": False},
        _hunyuandit, second=16, times=STEPS,
    ),
    Tiny(
        "lumina", _LUMINA | {"sample_size": 8, "cross_attention_dim": 24}, {"num_layers": 24, "num_kv_heads": 8},
        _lumina,
    ),
    Tiny(
        "lumina2",
        _LUMINA | {"in_channels": 4, "num_refiner_layers": 1, "axes_dim_rope": (4, 6, 6), "cap_feat_dim": 24},
        {"cap_feat_dim": 2304}, _lumina2,
    ),
)  # fmt: skip
