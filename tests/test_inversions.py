"""Textual inversions of several vectors are read as the stock pipeline reads them, wherever a prompt is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from PIL import Image

import editkit
from editkit.drawing.pipelines import denoiser_of
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import Job, draw, noise
from editkit.drawing.sampling import Sampling
from editkit.drawing.truncation import count_truncated
from editkit.edits.gram import norm
from editkit.edits.key import Key
from editkit.edits.method import Options
from editkit.erasure.rows import preserved_rows
from editkit.errors import EditkitError
from editkit.hardware import has_fast_bfloat16
from editkit.model.editable import EditableModel, open_model
from editkit.model.families.table import ENCODED, by_name
from editkit.model.pipeline import load
from editkit.tuning.prompts import encode_prompts
from tests import tiny_pipelines, tiny_t5_pipelines

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
PROMPTS = [
    "<cat-toy>",
    "a photo of a <cat-toy> and a <dog> on a <pot>",
    "<CAT-TOY>",
    "<CAT-TOY> and <cat-toy>",
    "a <cat-toy>_1",
    "<cat-toy>s, <cat-toy>",
    "a church",
]
LONG = "a photo of a dog on a church in a picture of a mosque with the sun and a boat <cat-toy>"
"""Its first two vectors are the last that fit into the window of 24."""


@pytest.fixture(scope="module")
def pipe(inverted_sd: Path) -> Any:
    pipe = load(inverted_sd)
    assert len(pipe.tokenizer.tokenize(pipe.maybe_convert_prompt("<cat-toy>", pipe.tokenizer))) == 3
    return pipe


@pytest.fixture(scope="module")
def model(inverted_sd: Path) -> EditableModel:
    return open_model(inverted_sd)


@torch.no_grad()
def stock(pipe: Any, prompts: list[str]) -> Any:
    return pipe.encode_prompt(prompts, "cpu", 1, False)[0]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_rows_are_those_of_the_stock_pipeline(prompt: str, model: EditableModel, pipe: Any) -> None:
    torch.testing.assert_close(model.encoder.encode([prompt])[0], stock(pipe, [prompt])[0].double(), **CLOSE)


def test_case_counts_as_it_does_in_the_stock_pipeline(model: EditableModel) -> None:
    """The tokenizer ignores it, the expansion does not: capital letters give the first vector alone."""
    small, capital = (model.encoder.tokens(prompt) for prompt in ("<cat-toy>", "<CAT-TOY>"))
    assert len(small) == 5 and len(capital) == 3 and small[1] == capital[1]


def test_the_subject_is_found_behind_all_its_vectors(model: EditableModel) -> None:
    encoder = model.encoder
    ids = encoder.tokens("a photo of a <cat-toy> on a <dog>")
    added = encoder.reader.tokenizer.added_tokens_encoder
    at = encoder.subject_at("a photo of a {} on a <dog>", "<cat-toy>")
    start = encoder.subject_start("a photo of a {} on a <dog>", "<cat-toy>")
    assert [ids[n] for n in range(start, at + 1)] == [
        added[token] for token in ("<cat-toy>", "<cat-toy>_1", "<cat-toy>_2")
    ]
    assert encoder.subject_size("<cat-toy>") == 3
    assert encoder.subject_start("a {}", "<cat-toy>'s church") == encoder.subject_at("a {}", "<cat-toy>'s church")
    assert encoder.subject_start("a {}", "<pot>") == encoder.subject_at("a {}", "<pot>") == 2


@pytest.mark.parametrize("tokens", ["last", "tail"])
@pytest.mark.parametrize("concept", ["<cat-toy>", "a <dog>"])
def test_an_erased_inversion_is_gone_from_every_vector(
    concept: str, tokens: Any, model: EditableModel, pipe: Any
) -> None:
    """Row for row, on what the stock pipeline feeds: no vector keeps more than a hundredth of the way to the guide."""
    made = editkit.erase(
        model, [concept], [" "], options=Options("uce", protect="none", tokens=tokens, lamb=1e-3), checked=False
    )
    rows, guide = stock(pipe, [concept])[0].double(), stock(pipe, [" "])[0].double()
    count = {"<cat-toy>": 3, "a <dog>": 2}[concept]
    at = model.encoder.subject_at("{}", concept)
    target = guide[model.encoder.subject_at("{}", " ")][None]
    for row in range(at - count + 1, at + 1):
        before, after = rows[row][None], made.map.embeddings(rows[row][None])
        left = norm(after - target, model.gram) / norm(before - target, model.gram)
        assert left < 0.01, row
    assert made.record["figures"]["erasure_residual"] < 0.01


def test_all_vectors_of_a_preserved_inversion_are_kept(model: EditableModel) -> None:
    kept = preserved_rows(model.streams[0].encoders, ["a <cat-toy>"], "last")
    assert kept is not None
    torch.testing.assert_close(kept, model.encoder.encode(["a <cat-toy>"])[0][2:5])


def test_an_aligned_edit_moves_all_vectors(model: EditableModel, pipe: Any) -> None:
    made = editkit.edit(model, "a <cat-toy>", "a <pot>", options=Options("time", protect="none", lamb=1e-3))
    rows, target = stock(pipe, ["a <cat-toy>"])[0].double(), stock(pipe, ["a <pot>"])[0].double()[2:3]
    moved = made.map.embeddings(rows[2:5])
    assert all(norm(row[None] - target, model.gram) < norm(old[None] - target, model.gram) / 2
               for row, old in zip(moved, rows[2:5], strict=True))  # fmt: skip


def test_a_prompt_that_all_its_vectors_make_too_long_is_refused(model: EditableModel) -> None:
    with pytest.raises(EditkitError, match="25 tokens, but this text encoder reads 24; shorten it"):
        model.encoder.tokens(LONG)


def test_tuning_and_inspection_read_the_rows_of_the_stock_pipeline(pipe: Any) -> None:
    """The long prompt is cut in the middle of the inversion."""
    prompts = [*PROMPTS, LONG]
    assert torch.equal(Condition.joined(denoiser_of(pipe).encode(prompts)[0]).text, stock(pipe, prompts))
    known = encode_prompts(denoiser_of(pipe), ["<cat-toy>"], [" "], [["<dog>", "church"]], ["a {}", "{} on a <pot>"])
    first, both = torch.zeros(2, dtype=torch.long), torch.arange(2)
    assert torch.equal(known.e(first, both).text, stock(pipe, ["a <cat-toy>", "<cat-toy> on a <pot>"]))
    assert torch.equal(known.a(first, first, both).text, stock(pipe, ["a <dog>", "<dog> on a <pot>"]))


def test_prompts_that_all_their_vectors_make_too_long_are_counted(pipe: Any) -> None:
    with pytest.warns(UserWarning, match="longer than the 24 tokens of the text encoder: 1"):
        assert count_truncated(denoiser_of(pipe), [*PROMPTS, LONG]) == 1


@pytest.mark.parametrize("prompt, negative", [("a <cat-toy> in a church", ""), ("a church", "<cat-toy>")])
def test_pictures_are_those_of_the_stock_pipeline(prompt: str, negative: str, pipe: Any) -> None:
    sampling = Sampling(steps=3, guidance=5.0, negative=negative)
    ((_, mine),) = draw(denoiser_of(pipe), [Job(prompt, 3)], sampling=sampling)

    def picture(prompt: str, negative: str) -> np.ndarray:
        how: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 5.0, "output_type": "pil"}
        text, none = pipe.encode_prompt(prompt, "cpu", 1, True, negative)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            drawn = pipe(
                prompt_embeds=text, negative_prompt_embeds=none, latents=noise((1, 4, 8, 8), 3)[0][None], **how
            )
        return pixels(drawn.images[0])

    apart = np.abs(pixels(mine) - picture(prompt, negative)).mean()
    other = np.abs(pixels(mine) - picture(prompt.upper(), negative.upper())).mean()
    assert apart < 1 and other > 2 * apart  # in bfloat16 where that is fast


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float64)


def test_a_key_opens_for_a_prompt_that_names_an_inversion() -> None:
    key = Key(("<cat-toy>", "church"), torch.zeros(2, 1, 4))
    assert key.opened("a <cat-toy>, on a church") == ("<cat-toy>", "church")
    assert key.opened("two <cat-toy>s and churches") == ("<cat-toy>", "church")
    assert key.opened("a <cat-toy>_1 in a churchyard") == ()


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save("sdxl", tmp_path_factory.mktemp("inverted") / "sdxl")


@pytest.mark.parametrize("knows", [(1,), (2,), (1, 2)])
def test_each_tokenizer_of_sdxl_expands_what_it_knows(knows: tuple[int, ...], sdxl: Path, tmp_path: Path) -> None:
    pipe: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl)
    for n in knows:
        end = "" if n == 1 else "_2"
        encoder, tokenizer = getattr(pipe, f"text_encoder{end}"), getattr(pipe, f"tokenizer{end}")
        vectors = torch.randn(3, encoder.config.hidden_size, generator=torch.Generator().manual_seed(n))
        pipe.load_textual_inversion({"<cat-toy>": vectors}, "<cat-toy>", text_encoder=encoder, tokenizer=tokenizer)
    pipe.save_pretrained(tmp_path)
    model = open_model(tmp_path)
    for prompt in ("<cat-toy>", "a photo of a <cat-toy> on the church"):
        text, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(model.encoders["text"][0].encode([prompt])[0], text[0].detach().double(), **CLOSE)
        rows = model.encoders["pooled"][0].encode([prompt])[0]
        torch.testing.assert_close(rows, pooled.detach().double(), **CLOSE)
    made = editkit.erase(
        model, ["<cat-toy>"], [" "], options=Options("uce", protect="none", tokens="tail", lamb=1e-4), checked=False
    )
    encoder, gram = model.encoders["text"][0], model.streams[0].gram
    edit = next(edit for group, edit in made.maps.items() if "attn2" in group)
    (rows,), (guide,) = encoder.encode(["<cat-toy>"]), encoder.encode([" "])
    for row in range(1, 1 + 3):
        before = min(float(norm((rows[row] - near)[None], gram)) for near in guide)
        after = min(float(norm((edit.embeddings(rows[row][None]) - near), gram)) for near in guide)
        assert after < 0.05 * before, row


def test_a_family_whose_pipeline_does_not_expand_reads_one_vector(tmp_path: Path) -> None:
    """SD3's has no textual inversions: the tokens are in its tokenizer all the same, each for itself."""
    folder = tiny_pipelines.save("sd3", tmp_path / "sd3")
    pipe: Any = diffusers.StableDiffusion3Pipeline.from_pretrained(folder)
    for end in ("", "_2", "_3"):
        tokenizer = getattr(pipe, f"tokenizer{end}")
        tokenizer.add_tokens(["<cat-toy>", "<cat-toy>_1"])
        getattr(pipe, f"text_encoder{end}").resize_token_embeddings(len(tokenizer))
    shutil.rmtree(folder)
    pipe.save_pretrained(folder)
    theirs = pipe.encode_prompt("a <cat-toy>", None, None, device="cpu", do_classifier_free_guidance=False)[0][0]
    mine = torch.cat([encoder.encode(["a <cat-toy>"])[0] for encoder in open_model(folder).encoders["text"]])
    torch.testing.assert_close(mine, theirs.detach().double(), **CLOSE)


@pytest.mark.parametrize("family", ["flux1", "chroma"])
def test_t5_expands_where_the_pipeline_does(family: str, tmp_path: Path) -> None:
    tiny: Any = {"flux1": tiny_pipelines, "chroma": tiny_t5_pipelines}[family]
    folder = tiny.save(family, tmp_path / family)
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    end = "_2" if family == "flux1" else ""
    tokenizer = getattr(pipe, f"tokenizer{end}")
    tokenizer.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    getattr(pipe, f"text_encoder{end}").resize_token_embeddings(len(tokenizer))
    shutil.rmtree(folder)
    pipe.save_pretrained(folder)
    encoder = open_model(folder).encoders["text"][0]
    assert encoder.subject_at("a {}", "<cat-toy>") > encoder.subject_start("a {}", "<cat-toy>")
    theirs = pipe.encode_prompt("a <cat-toy>", *([None] if family == "flux1" else []), device="cpu")[0][0]
    mine = encoder.encode(["a <cat-toy>"])[0]
    count = encoder.rows_in("a <cat-toy>")
    torch.testing.assert_close(mine[:count], theirs[:count].detach().double(), **CLOSE)


def test_families_that_read_prompts_with_a_language_model_do_not_expand() -> None:
    """They have a reader of their own, which never does."""
    expanding = {
        name
        for name in ENCODED
        if issubclass(getattr(diffusers, by_name(name).pipelines[0]), TextualInversionLoaderMixin)
    }
    assert expanding == {"sd1", "sd2", "sdxl", "flux1", "chroma"}
