"""Pipelines around a network of a released model's shape: random weights, small text encoders of the right widths."""

from __future__ import annotations

from typing import Any


def parts(kind: str) -> dict[str, Any]:
    """What a pipeline of that class has besides its UNet. The VAE is of the released shape: it takes time, too."""
    from diffusers import AutoencoderKL, DDIMScheduler

    shape: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
    }
    common: dict[str, Any] = {"vae": AutoencoderKL(**shape), "scheduler": DDIMScheduler()}
    if kind == "StableDiffusionXLPipeline":
        small, big = _clip(768), _clip(1280, projected=1280)
        return common | {
            "text_encoder": small[0], "tokenizer": small[1], "text_encoder_2": big[0], "tokenizer_2": big[1],
            "add_watermarker": False,
        }  # fmt: skip
    encoder, tokenizer = _clip(768)
    return common | {
        "text_encoder": encoder, "tokenizer": tokenizer, "safety_checker": None, "feature_extractor": None,
        "requires_safety_checker": False,
    }  # fmt: skip


def _clip(width: int, projected: int | None = None) -> tuple[Any, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from editkit.embeddings.clip_bpe import clip_tokenizer

    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=8,
        projection_dim=projected or 512,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval(), tokenizer
