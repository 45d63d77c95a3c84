"""Tiny random pipelines of the families whose one text encoder is a T5, as stock diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny_pipelines import t5, t5_tokenizer, vae


def save(family: str, folder: Path) -> Path:
    """A pipeline of `family`, seeded, in float32."""
    torch.manual_seed(0)
    pipe = PIPELINES[family]()
    open_gates(pipe.transformer)
    pipe.save_pretrained(folder)
    return folder


def open_gates(model: torch.nn.Module) -> None:
    """Norms, gates and biases that start as ones or zeros become random: a closed gate keeps the prompt out."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.unique().numel() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)


def flow() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def _chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    config: dict[str, Any] = dict(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return ChromaPipeline(
        transformer=ChromaTransformer2DModel(**config),
        scheduler=flow(),
        vae=vae(4),
        text_encoder=t5(64),
        tokenizer=t5_tokenizer(),
    )


def umt5(width: int) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    sizes: dict[str, Any] = {"d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(t5_tokenizer()), d_model=width, **sizes)).eval()


def _auraflow() -> Any:
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    config: dict[str, Any] = dict(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(64),
        vae=vae(4),
        transformer=AuraFlowTransformer2DModel(**config),
        scheduler=flow(),
    )


def _pixart() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    config: dict[str, Any] = dict(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=64,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
    )
    scheduler: Any = DPMSolverMultistepScheduler()
    return PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(64),
        vae=vae(4),
        transformer=PixArtTransformer2DModel(**config),
        scheduler=scheduler,
    )


def _ltx() -> Any:
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel

    config: dict[str, Any] = dict(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=64,
    )
    blocks: dict[str, Any] = dict(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=1,
    )
    return LTXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(64),
        vae=AutoencoderKLLTXVideo(**blocks),
        transformer=LTXVideoTransformer3DModel(**config),
        scheduler=flow(),
    )


def _wan() -> Any:
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel

    config: dict[str, Any] = dict(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=64,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
    )
    blocks: dict[str, Any] = dict(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(64),
        vae=AutoencoderKLWan(**blocks),
        transformer=WanTransformer3DModel(**config),
        scheduler=flow(),
    )


PIPELINES = {"chroma": _chroma, "auraflow": _auraflow, "pixart": _pixart, "ltx": _ltx, "wan": _wan}
