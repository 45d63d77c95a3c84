"""Guards: SLD against its equations and diffusers' pipeline, the negative prompt against the stock one, and how both
are named, drawn and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, draw, jobs, noise
from editkit.drawing.sampling import Sampling
from editkit.drawing.trajectory import classifier_free
from editkit.edits.guarded import Guarded
from editkit.edits.guards import SLD, STRENGTHS, UNSAFE, Negative, parse_guard
from editkit.edits.method import Options
from editkit.emoji.guards_table import as_markdown
from editkit.errors import EditkitError
from editkit.model.editable import open_model
from editkit.plugins import loadable
from editkit.variants.edit_file import save_edit
from editkit.variants.guard_names import split_guard
from editkit.variants.named import behind_guard, read_variants, variant_name, variant_sha256
from tests.cases import randn
from tests.cli import run
from tests.test_engine import NEAR, difference, stock_picture
from tests.tiny_pipelines import save

PLAIN = Sampling(6, 3.0)


@pytest.fixture(scope="module")
def emoji() -> Denoiser:
    return open_denoiser("emoji")


def sld(setting: str, concepts: str = "church") -> Guarded:
    return Guarded(None, SLD(concepts, setting), f"sld:{setting}={concepts}")


@pytest.mark.parametrize("setting", STRENGTHS)
def test_sld_is_its_equations_element_by_element(setting: str) -> None:
    """Six steps of a picture of 20, of which the warm-up of 50 makes fewer."""
    own, scale = STRENGTHS[setting], 7.5
    guide = SLD("x", setting).begin(classifier_free, 20)
    nu = [0.0] * 8
    for step in range(6):
        u, p, S = (randn(10 * step + n, 2, 4) * 0.05 for n in range(3))
        found = guide(u, p, S, scale).flatten().tolist()
        for n, (eu, ep, eS) in enumerate(zip(*(each.flatten().tolist() for each in (u, p, S)), strict=True)):
            mu = min(1.0, own.scale * abs(ep - eS)) if ep - eS < own.threshold else 0.0
            gamma = mu * (eS - eu) + own.momentum_scale * nu[n]
            nu[n] = own.momentum * nu[n] + (1 - own.momentum) * gamma
            warm = step < math.ceil(own.warmup * 20 / 50)
            assert found[n] == pytest.approx(eu + scale * (ep - eu - (0.0 if warm else gamma)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("setting", ["medium", "max"])
def test_a_guarded_picture_is_that_of_diffusers_pipeline(setting: str, emoji: Denoiser) -> None:
    from diffusers.pipelines.deprecated.stable_diffusion_safe.pipeline_stable_diffusion_safe import (
        StableDiffusionPipelineSafe,
    )

    own, steps = STRENGTHS[setting], 10
    pipe: Any = emoji.pipe
    none: Any = None
    safe = StableDiffusionPipelineSafe(
        pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, emoji.schedule(PLAIN), none, none,
        requires_safety_checker=False,
    )  # fmt: skip
    safe.safety_concept = "church, dog"
    made: Any = safe(
        "a church", num_inference_steps=steps, guidance_scale=3.0, latents=noise(emoji.latent_shape(), 3)[None],
        sld_guidance_scale=own.scale, sld_warmup_steps=math.ceil(own.warmup * steps / 50),
        sld_threshold=own.threshold, sld_momentum_scale=own.momentum_scale, sld_mom_beta=own.momentum,
    )  # fmt: skip
    (stock,) = made.images
    variants = [None, sld(setting, "church, dog")]
    plain, ours = (picture for _, picture in draw(emoji, jobs(["a church"], [3], 2), variants, Sampling(steps, 3.0)))
    assert difference(ours, stock) < NEAR
    if setting == "max":
        assert difference(ours, plain) > 3 * NEAR


def test_a_negative_guard_is_the_stock_negative_prompt(emoji: Denoiser) -> None:
    guarded = Guarded(None, Negative("church"), "negative=church")
    ((_, ours),) = draw(emoji, [Job("a castle", 2)], [guarded], PLAIN)
    negative = Sampling(6, 3.0, "church")
    assert difference(ours, stock_picture(emoji, "a castle", 2, negative)) < NEAR
    ((_, same),) = draw(emoji, [Job("a castle", 2)], [None], negative)
    assert difference(ours, same) == 0


def test_pictures_depend_neither_on_the_batch_nor_on_what_is_drawn_beside(emoji: Denoiser) -> None:
    edit = editkit.erase("emoji", ["dog"], options=Options("uce", protect="none"), checked=False)
    both = Guarded(edit, SLD("church", "max"), "sld:max=church")
    variants = [None, sld("max"), edit, both]
    wanted = jobs(["a church", "a dog"], [0], len(variants))
    together = dict(draw(emoji, wanted, variants, Sampling(4, 3.0)))
    alone = dict(draw(emoji, wanted, variants, Sampling(4, 3.0, batch=1)))
    assert max(difference(together[job], alone[job]) for job in wanted) < NEAR
    dogs = [together[job] for job in wanted if job.prompt == "a dog"]
    apart = [difference(dogs[n], dogs[m]) for n in range(4) for m in range(n)]
    assert min(apart) > NEAR  # the strongest setting does not spare what is far from its concept


def test_where_the_prompt_is_far_from_the_concept_nothing_changes() -> None:
    """φ is 0 where `ε_p − ε_S` is not below the threshold."""
    guide = SLD("x", "weak").begin(classifier_free, 1)
    u, p = randn(1, 3), randn(2, 3)
    for _ in range(3):
        assert torch.equal(guide(u, p, p - 1.0, 2.0), classifier_free(u, p, 2.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sdl:max=church", "no such guard; did you mean sld"),
        ("sld:medum=church", "sld has no setting 'medum'; expected one of weak, medium, strong, max"),
        ("negative:max=church", "negative has no setting 'max'; it has none"),
        ("negative", "names nothing to lead away from"),
    ],
)
def test_what_is_no_guard_is_told(text: str, says: str) -> None:
    with pytest.raises(EditkitError, match=says):
        behind_guard(["base"], text)
    assert parse_guard("sld", loadable("guards")).concepts == UNSAFE


def test_names_of_guarded_variants(tmp_path: Path) -> None:
    edit, guard = tmp_path / "a+b.safetensors", "sld:max=church"
    save_edit(editkit.erase("emoji", ["dog"], options=Options("uce", protect="none"), checked=False), edit)
    assert behind_guard(["base", str(edit)], guard) == ["base", f"{edit}+{guard}"]
    assert behind_guard([], guard) == [f"base+{guard}"] and behind_guard(["base"], None) == ["base"]
    name = f"{edit}+{guard}"
    assert split_guard(name) == (str(edit), guard) and split_guard(str(edit)) == (str(edit), None)
    assert variant_name(name) == "a+b+sld-max-church"
    hashes = [variant_sha256(each) for each in (str(edit), name, f"base+{guard}", "base+sld:weak=church")]
    assert len({*hashes}) == 4 and None not in hashes
    plain, guarded = read_variants(open_model("emoji").source, ["base", name])
    assert plain is None and isinstance(guarded, Guarded) and guarded.record["concepts"] == ["dog", "church"]
    with pytest.raises(EditkitError, match="never learned the word 'hate'"):
        read_variants(open_model("emoji").source, ["base+sld:max"])


def test_a_picture_without_guidance_has_no_guard(emoji: Denoiser) -> None:
    with pytest.raises(
        EditkitError, match=r"--guard sld:max=church: leads away by classifier-free guidance, .* without"
    ):
        list(draw(emoji, [Job("a church", 0)], [sld("max")], Sampling(2, 1.0)))


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_other_families_are_guarded(family: str, tmp_path: Path) -> None:
    denoiser = open_denoiser(open_model(save(family, tmp_path / family)).source)
    sampling = Sampling(2, 3.0, scheduler="own")
    variants = [None, sld("max", "a dog"), Guarded(None, Negative("a dog"), "negative=a dog")]
    drawn = [picture for _, picture in draw(denoiser, jobs(["a church"], [0], 3), variants, sampling)]
    assert len({picture.tobytes() for picture in drawn}) == 3


def test_the_page_states_the_committed_table_and_every_setting() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "how-to" / "guards.md").read_text(encoding="utf-8")
    assert as_markdown(json.loads((root / "tests" / "bench" / "guards.json").read_text())) in page
    assert all(f"`{setting}`" in page for setting in STRENGTHS)


def test_commands_take_a_guard(tmp_path: Path) -> None:
    guard = ["--guard", "sld:max=church", "--steps", "2"]
    assert "picture" in run("generate", "--prompt", "a church", "--seeds", "0", *guard, "--out", "g.png", cwd=tmp_path)
    run("compare", "base", "--prompt", "a church", "--seeds", "0", *guard, "--out", "c.png", cwd=tmp_path)
    with Image.open(tmp_path / "c.png") as two, Image.open(tmp_path / "g.png") as one:
        assert two.height > 1.5 * one.height
    attack = ("attack", "base", "--attack", "random", "--pictures", "1", *guard)
    said = run(*attack, "--json", cwd=tmp_path)
    assert {line["variant"] for line in json.loads(said)["lines"]} == {"base", "base+sld-max-church"}
    unguided = run(
        "attack", "base", "--attack", "random", "--pictures", "1", *guard, "--guidance", "1", cwd=tmp_path, code=1
    )
    assert "leads away by classifier-free guidance" in unguided
    refused = run("export", "base+sld:max=church", "--out", "x.safetensors", cwd=tmp_path, code=1)
    assert "a guard leads away while a picture is drawn and changes no weight; expected an edit file here" in refused
