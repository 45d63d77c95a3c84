"""Tiny random pipelines of the families whose text encoder is a language model, as stock diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny_pipelines import WORDS, vae
from tests.tiny_t5_pipelines import flow, open_gates

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "[gMASK]", "<sop>")
OTHERS = ["\n", *(chr(n) for n in range(33, 127))]
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0,
}  # fmt: skip


WIDE = 256
"""Wider than the instructions before a prompt are long, letter by letter: else an edit of all rows cannot be exact."""


def save(family: str, folder: Path) -> Path:
    """A pipeline of `family`, seeded, in float32."""
    torch.manual_seed(0)
    pipe = PIPELINES[family]()
    open_gates(pipe.transformer)
    pipe.save_pretrained(folder)
    return folder


def tokenizer(start: str) -> Any:
    """One token a word of the tests, else one a letter; `start` stands before every prompt."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [(token, 0.0) for token in SPECIAL] + [("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -4.0) for letter in OTHERS]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3))
    backend.normalizer = normalizers.Replace(" ", "▁")  # pyright: ignore[reportAttributeAccessIssue]
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # pyright: ignore
    ids = [(token, SPECIAL.index(token)) for token in start.split()]
    if ids:
        backend.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=ids)  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def vocabulary() -> int:
    return len(SPECIAL) + 1 + len(WORDS) + len(OTHERS)


def _cogview4() -> Any:
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel
    from transformers import GlmConfig, GlmModel

    config: dict[str, Any] = dict(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )
    glm = tokenizer("[gMASK] <sop>")
    glm.padding_side = "left"
    return CogView4Pipeline(
        tokenizer=glm,
        text_encoder=GlmModel(GlmConfig(vocab_size=vocabulary(), **SIZES)).eval(),
        vae=vae(4),
        transformer=CogView4Transformer2DModel(**config),
        scheduler=flow(),
    )


def _gemma(**more: Any) -> Any:
    from transformers import Gemma2Config, Gemma2Model

    sizes: dict[str, Any] = SIZES | {"vocab_size": vocabulary(), "query_pre_attn_scalar": 16} | more
    return Gemma2Model(Gemma2Config(**sizes)).eval()


def _lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    config: dict[str, Any] = dict(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(512, 128, 128),
        cap_feat_dim=WIDE,
    )
    return Lumina2Pipeline(
        tokenizer=tokenizer("<bos>"),
        text_encoder=_gemma(hidden_size=WIDE),
        vae=vae(4),
        transformer=Lumina2Transformer2DModel(**config),
        scheduler=flow(),
    )


def _sana() -> Any:
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel

    blocks: dict[str, Any] = dict(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    config: dict[str, Any] = dict(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=8,
    )
    scheduler: Any = flow()
    return SanaPipeline(
        tokenizer=tokenizer("<bos>"),
        text_encoder=_gemma(),
        vae=AutoencoderDC(**blocks),
        transformer=SanaTransformer2DModel(**config),
        scheduler=scheduler,
    )


def _qwenimage() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    wide = {"hidden_size": WIDE, "num_attention_heads": 16}
    text = SIZES | wide | {"vocab_size": vocabulary(), "max_position_embeddings": 1024}
    text |= {"rope_parameters": {"mrope_section": [2, 2, 4], "rope_type": "default", "rope_theta": 1e4}}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDE}
    blocks: dict[str, Any] = dict(
        base_dim=6,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    config: dict[str, Any] = dict(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDE,
        axes_dims_rope=(8, 4, 4),
    )
    return QwenImagePipeline(
        tokenizer=tokenizer(""),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=sight)).eval(),
        vae=AutoencoderKLQwenImage(**blocks),
        transformer=QwenImageTransformer2DModel(**config),
        scheduler=flow(),
    )


def _flux2() -> Any:
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config: dict[str, Any] = dict(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
    )
    blocks: dict[str, Any] = dict(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(4,),
        latent_channels=1,
        norm_num_groups=1,
    )
    chat = tokenizer("")
    chat.chat_template = "{% for m in messages %}<user>{{ m.content }}</user>{% endfor %}<assistant>"
    sizes: dict[str, Any] = SIZES | {
        "vocab_size": vocabulary(),
        "hidden_size": 16,
        "num_hidden_layers": 28,
        "head_dim": 8,
    }
    return Flux2KleinPipeline(
        tokenizer=chat,
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**sizes)).eval(),
        vae=AutoencoderKLFlux2(**blocks),
        transformer=Flux2Transformer2DModel(**config),
        scheduler=flow(),
    )


PIPELINES = {
    "cogview4": _cogview4,
    "lumina2": _lumina2,
    "sana": _sana,
    "qwenimage": _qwenimage,
    "flux2": _flux2,
}
