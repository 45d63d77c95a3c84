"""Which files of a repository are fetched: those that the index names, judged by listings of real repositories."""

from __future__ import annotations

import pytest

from editkit.model.checkpoints.hub import wanted_files
from editkit.model.checkpoints.weight_files import choose, choose_listed

UNET, CLIP, TOKENS = ["diffusers", "UNet2DConditionModel"], ["transformers", "CLIPTextModel"], ["transformers", "X"]


def listing(names: str) -> list[str]:
    return names.split()


SD15 = listing("""
.gitattributes README.md model_index.json v1-5-pruned-emaonly.ckpt v1-5-pruned-emaonly.safetensors v1-5.yaml
feature_extractor/preprocessor_config.json safety_checker/config.json safety_checker/model.fp16.safetensors
safety_checker/model.safetensors safety_checker/pytorch_model.bin safety_checker/pytorch_model.fp16.bin
scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.fp16.safetensors
text_encoder/model.safetensors text_encoder/pytorch_model.bin tokenizer/merges.txt tokenizer/special_tokens_map.json
tokenizer/tokenizer_config.json tokenizer/vocab.json unet/config.json unet/diffusion_pytorch_model.bin
unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.non_ema.safetensors
unet/diffusion_pytorch_model.safetensors
""")
SD15_INDEX = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": True, "unet": UNET,
              "text_encoder": CLIP, "tokenizer": TOKENS, "safety_checker": TOKENS, "feature_extractor": TOKENS,
              "scheduler": UNET, "image_encoder": [None, None]}  # fmt: skip


def test_the_plain_weights_and_nothing_twice() -> None:
    wanted = wanted_files(SD15, SD15_INDEX)
    assert [name for name in wanted if name.endswith(".safetensors")] == [
        "safety_checker/model.safetensors", "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert {"model_index.json", "tokenizer/merges.txt", "unet/config.json", "scheduler/scheduler_config.json"} < set(
        wanted
    )
    assert not [name for name in wanted if name.endswith((".bin", ".ckpt", ".md", ".yaml", ".gitattributes"))]


def test_a_component_with_half_precision_alone_is_brought() -> None:
    listing = [name for name in SD15 if name != "text_encoder/model.safetensors"]
    weights = [name for name in wanted_files(listing, SD15_INDEX) if name.startswith("text_encoder/")]
    assert weights == ["text_encoder/config.json", "text_encoder/model.fp16.safetensors"]


def test_what_the_index_does_not_name_stays_there() -> None:
    listing = [*SD15, "image_encoder/model.safetensors", "onnx/unet/model.onnx", "unet_old/config.json"]
    assert wanted_files(listing, SD15_INDEX) == wanted_files(SD15, SD15_INDEX)


FLUX = listing("""
model_index.json flux1-dev.safetensors ae.safetensors dev_grid.jpg transformer/config.json
transformer/diffusion_pytorch_model-00001-of-00003.safetensors
transformer/diffusion_pytorch_model-00002-of-00003.safetensors
transformer/diffusion_pytorch_model-00003-of-00003.safetensors
transformer/diffusion_pytorch_model.safetensors.index.json text_encoder_2/config.json
text_encoder_2/model-00001-of-00002.safetensors text_encoder_2/model-00002-of-00002.safetensors
text_encoder_2/model.fp16-00001-of-00002.safetensors text_encoder_2/model.fp16-00002-of-00002.safetensors
text_encoder_2/model.safetensors.index.json text_encoder_2/model.safetensors.index.fp16.json tokenizer_2/spiece.model
tokenizer_2/tokenizer.json tokenizer_2/tokenizer.model tokenizer_2/chat_template.jinja tokenizer_2/vocab.txt
tokenizer_2/code.py
""")


def test_shards_their_index_and_every_kind_of_tokenizer() -> None:
    index = {"transformer": UNET, "text_encoder_2": CLIP, "tokenizer_2": TOKENS}
    wanted = set(wanted_files(FLUX, index))
    spare = {name for name in FLUX if "fp16-0" in name} | {"flux1-dev.safetensors", "ae.safetensors", "dev_grid.jpg"}
    assert wanted == set(FLUX) - spare - {"tokenizer_2/code.py"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ("model.safetensors model.fp16.safetensors", "model.safetensors"),
        ("model.fp16.safetensors pytorch_model.bin", "model.fp16.safetensors"),
        ("model.bf16.safetensors model.fp16.safetensors", "model.bf16.safetensors"),
        ("diffusion_pytorch_model.fp16.safetensors other.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
        ("model-00001-of-00002.fp16.safetensors model-00002-of-00002.fp16.safetensors", "both"),
        ("model.fp16-00001-of-00002.safetensors model.fp16-00002-of-00002.safetensors", "both"),
        ("pytorch_model.bin config.json", ""),
    ],
)
def test_one_variant_of_a_listing_is_chosen(names: str, chosen: str) -> None:
    listed = names.split()
    assert choose_listed(listed) == tuple(listed if chosen == "both" else chosen.split())


def test_shards_that_are_there_go_before_those_of_which_only_the_index_is() -> None:
    indexes = {"model.safetensors.index.json": ["model-00001-of-00001.safetensors"],
               "model.safetensors.index.fp16.json": ["model-00001-of-00001.fp16.safetensors"]}  # fmt: skip
    chosen = choose([*indexes, "model-00001-of-00001.fp16.safetensors"], indexes.__getitem__)
    assert chosen is not None and chosen.variant == "fp16"
    missing = choose(list(indexes), indexes.__getitem__)
    assert missing is not None and missing.variant is None
