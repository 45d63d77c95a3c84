"""The table of families itself: names, pipelines, and what it says of others."""

from __future__ import annotations

import inspect
import subprocess
import sys

import diffusers
import pytest

from editkit.errors import EditkitError
from editkit.model.families.table import ENCODED, FAMILIES, by_name, family_of

FORMER = {"LuminaText2ImgPipeline", "Lumina2Text2ImgPipeline"}
"""Names that released models have in `model_index.json` and diffusers no longer has."""


def test_pipelines_are_those_of_diffusers_with_that_denoiser() -> None:
    for family in FAMILIES:
        for name in set(family.pipelines) - FORMER:
            parts = inspect.signature(getattr(diffusers, name).__init__).parameters
            assert family.denoiser in str(parts[family.component].annotation), name
    assert {name for family in FAMILIES for name in family.pipelines if not hasattr(diffusers, name)} == FORMER
    assert "transformer_2" in inspect.signature(diffusers.WanPipeline.__init__).parameters


@pytest.mark.parametrize(
    ("pipeline", "width", "name"),
    [
        ("StableDiffusionPipeline", 768, "sd1"),
        ("StableDiffusionPipeline", 256, "sd1"),
        ("StableDiffusionPipeline", None, "sd1"),
        ("StableDiffusionInpaintPipeline", 1024, "sd2"),
        ("StableDiffusionXLPipeline", 2048, "sdxl"),
        ("StableDiffusionXLImg2ImgPipeline", 1280, "sdxl"),
        ("StableDiffusion3Pipeline", None, "sd3"),
        ("LuminaText2ImgPipeline", 2048, "lumina"),
        ("Lumina2Text2ImgPipeline", None, "lumina2"),
    ],
)
def test_family_of(pipeline: str, width: int | None, name: str) -> None:
    assert family_of(pipeline, {"cross_attention_dim": width}, {}).name == name


def test_unknown_pipelines_and_families_are_errors_that_name_the_known_ones() -> None:
    message = r"^pipeline 'KolorsPipeline': .* its text_encoder is ChatGLMModel, expected CLIPTextModel; .*, Flux"
    with pytest.raises(EditkitError, match=message):
        family_of("KolorsPipeline", {}, {"unet": "UNet2DConditionModel", "text_encoder": "ChatGLMModel"})
    with pytest.raises(EditkitError, match=r"^family 'sd4': did you mean sd3\? known are auraflow, .*, wan$"):
        by_name("sd4")


def test_a_label_shows_numbers_as_stars() -> None:
    assert by_name("wan").rules[0].label == "blocks.*.attn2.to_[kv]"


def test_the_table_loads_neither_torch_nor_diffusers() -> None:
    script = "import sys, editkit.model.families.table; sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_is_encoded_is_what_the_table_says() -> None:
    from editkit.model.encoders.streams import ENCODERS

    assert tuple(ENCODERS) == ENCODED
