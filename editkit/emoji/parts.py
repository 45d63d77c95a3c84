"""The bundled model's parts, untrained: tokenizer, text encoder, UNet, scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from editkit.emoji.captions import every_caption_word
from editkit.emoji.catalogue import catalogue

TEXT_WIDTH = 512
TEXT_LENGTH = 24


def kept_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a training run. Learning breaks ties at random, so it is learnt once and kept in `folder`: a
    resumed run must not give two words each other's numbers."""
    if not (folder / "tokenizer.json").exists():
        new_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def new_tokenizer(vocabulary: int = 1400) -> CLIPTokenizer:
    """CLIP's byte-pair format, learnt on the caption words: nearly every one of them is a single token."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    bpe = Tokenizer(BPE(unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    words = Split(r" ", "removed")
    bpe.pre_tokenizer = PreTokenizers([words, ByteLevel(add_prefix_space=False, use_regex=True)])  # pyright: ignore
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    bpe.train_from_iterator(every_caption_word(catalogue()) * 2, trainer)
    model = json.loads(bpe.to_str())["model"]
    letters = sorted(alphabet)
    learnt = [token for token in model["vocab"] if token not in alphabet]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [token for token in learnt if token not in tokens]
    vocab = {token: number for number, token in enumerate([*tokens, start, end])}
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_LENGTH)


def new_text_encoder(tokenizer: Any) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=8,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(112, 224),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers' old name: this is the number of heads
        norm_num_groups=16,
    )


def new_scheduler() -> Any:
    """v-prediction with zero terminal SNR: plain backgrounds need the lowest frequencies right from the first step."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
