"""Where the prompt enters each model family: explicit rules, and modules that are refused.

Each rule was found, and is tested, by running the denoiser with two latents and timesteps and with two prompts. The
input of a *raw* module is the text encoder's output. That of a *static* one depends on the prompt alone, through a
small module before it. Nearly everything else that the prompt reaches depends on latent or timestep too: it has no
fixed key that a closed-form edit could map. Rules name whole modules, never part of a name: `attn2` reads the text in
one family and the picture in another.

Where a caption projection feeds the cross-attention of every layer (PixArt, Sana, LTX, Wan, HunyuanDiT), the rule is
the keys and values behind it, as in a UNet. This file imports neither torch nor diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from editkit.errors import EditkitError
from editkit.model.families.family import Family, Refusal, Rule
from editkit.model.families.parts import family_by_parts
from editkit.plugins import load, loadable

_ATTN2 = r"attn2\.to_[kv]"
_UNET = rf"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+\.transformer_blocks\.\d+\.{_ATTN2}"
_BLOCKS = rf"transformer_blocks\.\d+\.{_ATTN2}"
_POOLED = r"time_text_embed\.text_embedder\.linear_1"
_CAPTION = r"time_caption_embed\.caption_embedder\.1"
_CAPTION_NORM = r"time_caption_embed\.caption_embedder\.0"
_JOINT = Refusal(
    r"(joint_)?transformer_blocks\.\d+\.attn\.add_[qkv]_proj",
    "inside a joint block the text also depends on the timestep and, after the first block, on the latent: "
    "there is no fixed key",
)
_ONE_SEQUENCE = "it reads text and picture in one sequence, which depends on latent and timestep: there is no fixed key"
_SINGLE = Refusal(r"single_transformer_blocks\.\d+\.attn\.to_([qkv]|qkv_mlp_proj)", _ONE_SEQUENCE)
_SD35_ATTN2 = Refusal(
    _BLOCKS,
    "in SD 3.5, attn2 is attention of the picture to itself and not to the text, its input depends on latent and "
    "timestep: there is no fixed key, and an edit would ruin the model",
)
_SD = (
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
    "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline",
)  # fmt: skip

FAMILIES = (
    Family(
        "sd1", "Stable Diffusion 1.x", "SD 1.4", "unet", "UNet2DConditionModel", _SD,
        (Rule("text", _UNET, "raw", 768, (320, 640, 1280), 32, bias=False),),
    ),
    Family(
        "sd2", "Stable Diffusion 2.x", "SD 2.1", "unet", "UNet2DConditionModel", _SD,
        (Rule("text", _UNET, "raw", 1024, (320, 640, 1280), 32, bias=False),),
    ),
    Family(
        "sdxl", "Stable Diffusion XL", "SDXL base 1.0", "unet", "UNet2DConditionModel",
        ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
        (Rule("text", _UNET, "raw", 2048, (640, 1280), 140, bias=False),
         Rule("pooled", r"add_embedding\.linear_1", "raw", 1280, (1280,), 1, bias=True, leading=True)),
    ),
    Family(
        "sd3", "Stable Diffusion 3", "SD3 medium", "transformer", "SD3Transformer2DModel",
        ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        (Rule("text", "context_embedder", "raw", 4096, (1536,), 1, bias=True),
         Rule("pooled", _POOLED, "raw", 2048, (1536,), 1, bias=True)),
        (_JOINT, _SD35_ATTN2),
    ),
    Family(
        "flux1", "FLUX.1", "FLUX.1 dev", "transformer", "FluxTransformer2DModel",
        ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxFillPipeline", "FluxControlPipeline",
         "FluxKontextPipeline", "FluxKontextInpaintPipeline"),
        (Rule("text", "context_embedder", "raw", 4096, (3072,), 1, bias=True),
         Rule("pooled", _POOLED, "raw", 768, (3072,), 1, bias=True)),
        (_JOINT, _SINGLE),
    ),
    Family(
        "flux2", "FLUX.2", "FLUX.2 dev", "transformer", "Flux2Transformer2DModel",
        ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline", "Flux2KleinKVPipeline"),
        (Rule("text", "context_embedder", "raw", 15360, (6144,), 1, bias=False),),
        (_JOINT, _SINGLE),
    ),
    Family(
        "chroma", "Chroma", "Chroma1 HD", "transformer", "ChromaTransformer2DModel",
        ("ChromaPipeline", "ChromaImg2ImgPipeline", "ChromaInpaintPipeline"),
        (Rule("text", "context_embedder", "raw", 4096, (3072,), 1, bias=True),),
        (_JOINT, _SINGLE),
    ),
    Family(
        "auraflow", "AuraFlow", "AuraFlow 0.3", "transformer", "AuraFlowTransformer2DModel", ("AuraFlowPipeline",),
        (Rule("text", "context_embedder", "raw", 2048, (3072,), 1, bias=False),),
        (_JOINT, _SINGLE),
    ),
    Family(
        "cogview4", "CogView4", "CogView4 6B", "transformer", "CogView4Transformer2DModel",
        ("CogView4Pipeline", "CogView4ControlPipeline"),
        (Rule("text", r"patch_embed\.text_proj", "raw", 4096, (2560,), 1, bias=True),),
        (Refusal(r"transformer_blocks\.\d+\.attn1\.to_[qkv]", _ONE_SEQUENCE),),
    ),
    Family(
        "pixart", "PixArt", "PixArt-Sigma XL 2", "transformer", "PixArtTransformer2DModel",
        ("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
        (Rule("text", _BLOCKS, "static", 1152, (1152,), 56, bias=True, before="caption_projection"),),
    ),
    Family(
        "sana", "Sana", "Sana 1.6B", "transformer", "SanaTransformer2DModel",
        ("SanaPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline"),
        (Rule("text", _BLOCKS, "static", 2240, (2240,), 40, bias=True, before="caption_projection|caption_norm"),),
    ),
    Family(
        "ltx", "LTX-Video", "LTX-Video 0.9", "transformer", "LTXVideoTransformer3DModel",
        ("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
        (Rule("text", _BLOCKS, "static", 2048, (2048,), 56, bias=True, before="caption_projection"),),
    ),
    Family(
        "wan", "Wan", "Wan 2.1 14B", "transformer", "WanTransformer3DModel",
        ("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline"),
        (Rule("text", rf"blocks\.\d+\.{_ATTN2}", "static", 5120, (5120,), 80, bias=True,
              before=r"condition_embedder\.text_embedder"),),
        (Refusal(r"blocks\.\d+\.attn2\.add_[kv]_proj", "it reads the picture that is animated, not the prompt"),),
        second="transformer_2",
    ),
    Family(
        "qwenimage", "Qwen-Image", "Qwen-Image 20B", "transformer", "QwenImageTransformer2DModel",
        ("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
        (Rule("text", "txt_in", "static", 3584, (3072,), 1, bias=True, before="txt_norm"),),
        (_JOINT,),
    ),
    Family(
        "hunyuandit", "HunyuanDiT", "HunyuanDiT 1.2", "transformer", "HunyuanDiT2DModel", ("HunyuanDiTPipeline",),
        (Rule("text", rf"blocks\.\d+\.{_ATTN2}", "static", 1024, (1408,), 80, bias=True, before="text_embedder"),
         Rule("pooled", r"time_extra_emb\.extra_embedder\.linear_1", "static", 1024, (5632,), 1, bias=True,
              before=r"time_extra_emb\.pooler", leading=True)),
    ),
    Family(
        "lumina", "Lumina-Next", "Lumina-Next SFT", "transformer", "LuminaNextDiT2DModel",
        ("LuminaPipeline", "LuminaText2ImgPipeline"),
        (Rule("text", rf"layers\.\d+\.{_ATTN2}", "static", 2048, (576,), 48, bias=False,
              before=r"layers\.\d+\.norm1_context", shared=False),
         Rule("pooled", _CAPTION, "static", 2048, (1024,), 1, bias=True, before=_CAPTION_NORM)),
    ),
    Family(
        "lumina2", "Lumina-Image 2", "Lumina-Image 2.0", "transformer", "Lumina2Transformer2DModel",
        ("Lumina2Pipeline", "Lumina2Text2ImgPipeline"),
        (Rule("text", _CAPTION, "static", 2304, (2304,), 1, bias=True, before=_CAPTION_NORM),),
        (Refusal(r"layers\.\d+\.attn\.to_[qkv]", _ONE_SEQUENCE),),
    ),
)  # fmt: skip
"""Every family that editkit has."""
BY_NAME = {family.name: family for family in FAMILIES}

ENCODED = (
    "sd1", "sd2", "sdxl", "sd3", "flux1", "chroma", "auraflow", "pixart", "ltx", "wan", "cogview4", "lumina2", "sana",
    "qwenimage", "flux2",
)  # fmt: skip
"""Families whose prompts `editkit.model.encoders.streams` encodes: `erase` and `edit` work on their checkpoints."""


def families() -> tuple[Family, ...]:
    """Those of the table, and those that other packages add."""
    known = loadable("families").values()
    return (*FAMILIES, *(family for family in known if isinstance(family, Family) and family.name not in BY_NAME))


def is_encoded(family: Family) -> bool:
    """Whether its prompts are encoded, so that `erase` and `edit` work on its checkpoints."""
    return family.name in ENCODED or bool(family.encoders)


def family_of(pipeline_class: str, config: Mapping[str, Any], components: Mapping[str, str]) -> Family:
    """The family of a pipeline: by its name, and for other names of Stable Diffusion by its parts.

    Args:
        pipeline_class: `_class_name` of `model_index.json`.
        config: of the denoiser. Stable Diffusion 1.x and 2.x share their pipelines: a `cross_attention_dim` of 1024 is
            2.x, any other counts as 1.x.
        components: component → class.

    Raises:
        EditkitError: no family has such a pipeline; the message says which part is another.
    """
    fitting = [family for family in families() if pipeline_class in family.pipelines]
    if not fitting:
        name, why = family_by_parts(components, config)
        if name is not None:
            return by_name(name)
        own = next((f for f in families() if f.denoiser == components.get("transformer")), None)
        if own is not None:
            raise EditkitError(
                f"pipeline {pipeline_class!r}: has the transformer of {own.title}, of which known are "
                f"{', '.join(own.pipelines)}; give one of these"
            )
        known = ", ".join(dict.fromkeys(name for family in families() for name in family.pipelines))
        raise EditkitError(
            f"pipeline {pipeline_class!r}: not a supported family: {why}; must have the parts of Stable Diffusion, "
            f"or be one of {known}"
        )
    of_that_width = [family for family in fitting if family.rules[0].width == config.get("cross_attention_dim")]
    return (of_that_width or fitting)[0]


def by_name(name: str) -> Family:
    """The family of that short name.

    Raises:
        EditkitError: there is none, or another package has something else under that name.
    """
    family = BY_NAME.get(name) or load("families", name)
    if not isinstance(family, Family) or family.name != name:
        raise EditkitError(f"family {name!r}: its package has no Family of that name there, but {family!r:.60}")
    return family
