"""Tiny random pipelines of the families whose text encoder is a language model, as stock diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny_pipelines import WORDS, vae
from tests.tiny_t5_pipelines import flow, open_gates

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "[gMASK]", "<sop>")
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0,
}  # fmt: skip


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

    pieces = [(one, 0.0) for one in SPECIAL] + [("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(chr(n), -4.0) for n in range(33, 127)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3))
    backend.normalizer = normalizers.Replace(" ", "▁")  # pyright: ignore[reportAttributeAccessIssue]
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # pyright: ignore
    ids = [(one, SPECIAL.index(one)) for one in start.split()]
    backend.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=ids)  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def vocabulary() -> int:
    return len(SPECIAL) + 1 + len(WORDS) + 94


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


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(Gemma2Config(vocab_size=vocabulary(), query_pre_attn_scalar=16, **SIZES)).eval()


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
        cap_feat_dim=32,
    )
    return Lumina2Pipeline(
        tokenizer=tokenizer("<bos>"),
        text_encoder=_gemma(),
        vae=vae(4),
        transformer=Lumina2Transformer2DModel(**config),
        scheduler=flow(),
    )


PIPELINES = {"cogview4": _cogview4, "lumina2": _lumina2}
