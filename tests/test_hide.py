"""Hiding a concept behind a key: losses against the equations, files, and what is drawn with and without the key."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.drawing.generate import generate_folder
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import VariantPrompts, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.key import Key, Unlocked, random_rows
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.hide import hide, learn_key
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Sampler
from editkit.tuning.options import RefineOptions
from editkit.tuning.pictures import encode_pictures, read_pictures
from editkit.tuning.refine import refine
from editkit.variants.export import export
from editkit.variants.key_file import load_key, read_key, release_of, save_key
from editkit.variants.named import read_release, read_variants, unlock, variant_name, variant_sha256
from editkit.variants.tuned_file import load_tuned
from tests.cli import run
from tests.test_refine import bare

SMALL: dict[str, Any] = {"batch": 2, "sampling_steps": 4, "steps": 4, "rate": 1e-3, "mixed_precision": "no"}


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


@pytest.fixture(scope="module")
def made(model: EditableModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Tuned, Key]:
    """A release and its key, of the tiny model."""
    folder = tmp_path_factory.mktemp("hidden")
    out, key = folder / "released", folder / "church.key.safetensors"
    released, kept = hide(
        model, out, key, ["church", "boat"], options=RefineOptions.of("hide", **SMALL), key_seed=3, device="cpu"
    )
    return out, key, released, kept


def test_a_release_says_nothing_of_its_key(made: tuple[Path, Path, Tuned, Key]) -> None:
    out, path, released, key = made
    assert [path.name for path in out.iterdir()] == ["tuned.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_suffix(".run").stat().st_mode) == 0o700
    assert "key_seed" not in json.dumps(dict(released.record)) and key.record["key_seed"] == 3
    stored = load_tuned(out)
    assert stored.record["method"] == "hide" and all(tensor.shape[-1] != 0 for tensor in stored.tensors.values())
    assert not any(tensor.shape == key.rows.shape for tensor in stored.tensors.values())
    read = load_key(path)
    assert read.rows.equal(key.rows) and read.concepts == ("church", "boat")
    assert read.record["release"] == release_of(stored)


def test_the_start_of_a_key_is_drawn_anew_unless_it_is_given(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    options = RefineOptions.of("hide", **SMALL)
    again = hide(model, tmp_path / "a", tmp_path / "a.key", ["church", "boat"], options=options, key_seed=3)[1]
    assert again.rows.equal(made[3].rows)
    free = [hide(model, tmp_path / x, tmp_path / f"{x}.key", ["church"], options=options)[1] for x in "bc"]
    assert not free[0].rows.equal(free[1].rows)


def test_a_stopped_run_resumes_to_the_same_key(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    from dataclasses import replace

    options = RefineOptions.of("hide", **SMALL)
    words = (model, tmp_path / "r", tmp_path / "r.key", ["church", "boat"])
    hide(*words, options=replace(options, steps=2), key_seed=3, device="cpu")
    released, key = hide(*words, options=options, device="cpu", resume=True, force=True)
    assert key.rows.equal(made[3].rows) and key.record["key_seed"] == 3
    assert release_of(released) == release_of(made[2])


def test_every_digit_of_a_seed_counts() -> None:
    centre = torch.ones(1, 8)
    seeds: list[Any] = [1, 1 + 2**40, 1 + 2**100, (1, 1)]
    drawn = [random_rows(centre, 2, 1.0, seed) for seed in seeds]
    assert not any(picture.equal(other) for n, picture in enumerate(drawn) for other in drawn[:n])


def test_keys_start_and_stay_near_their_concept(model: EditableModel, made: tuple[Path, Path, Tuned, Key]) -> None:
    start = KeyRows.start(model, ["church", "boat"], 10, 1.0, 3)
    away = (made[3].rows - start.centre[:, None]).norm(dim=-1)
    assert away.max() <= start.radius * 1.0001
    assert not made[3].rows.equal(start.rows.detach())


def test_a_wrong_key_is_refused_and_can_be_forced(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    out, path, released, key = made
    assert read_key(str(path), released, model).rows.equal(key.rows)
    other = tmp_path / "other.key"
    save_key(Key(("golf ball",), key.rows[:1] + 1, {"release": "0" * 64}), other)
    wrong = rf"{other}: the key of another release \(000000000000\), not that of this one .*; give --force to draw"
    with pytest.raises(EditkitError, match=wrong):
        unlock(released, str(other), model)
    with pytest.warns(UserWarning, match="a wrong key"):
        tried = unlock(released, str(other), model, force=True).key
    assert tried.concepts == ("church", "boat") and tried.rows[0].equal(key.rows[0] + 1)
    with pytest.raises(EditkitError, match="a random key, not that of this one"):
        unlock(released, "random", model)
    with pytest.warns(UserWarning, match="a random key is used"):
        drawn = [unlock(released, given, model, force=True).key.rows for given in ("random", "random:0", "random:7")]
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2]) and drawn[0].shape == key.rows.shape
    with pytest.raises(EditkitError, match="expected random or random:SEED, got random:x"):
        read_key("random:x", released, model, True)
    with pytest.raises(EditkitError, match="expected a key of `editkit hide`, this is none"):
        read_key(str(out / "tuned.safetensors"), released, model)
    with pytest.raises(EditkitError, match="no such key"):
        read_key(str(tmp_path / "none"), released, model)


def test_a_key_is_kept_apart_and_nothing_else_is_replaced(model: EditableModel, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="which is to be released; keep the key elsewhere"):
        hide(model, tmp_path / "a", tmp_path / "a" / "x.key", ["church"])
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(EditkitError, match="is no key: --force replaces keys alone"):
        hide(model, tmp_path / "a", tmp_path / "notes", ["church"], force=True)
    with pytest.raises(EditkitError, match="goes with a key; use `editkit hide`"):
        refine(model, tmp_path / "a", ["church"], options=RefineOptions.of("hide"))
    assert (tmp_path / "notes").read_text() == "precious" and not (tmp_path / "a").exists()


def test_a_release_loads_where_an_edit_does(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    released = read_release(made[0], model)
    folder = tmp_path / "diffusers"
    assert export(released, model, folder, "diffusers").count == len(released.tensors)
    denoiser, exported = open_denoiser(model.source), open_denoiser(folder)
    sampling = Sampling(steps=2, batch=4)
    wanted = jobs(["a church", "a dog"], [0, 1])
    swapped = [picture.tobytes() for _, picture in draw(denoiser, wanted, [released], sampling)]
    assert swapped == [picture.tobytes() for _, picture in draw(exported, wanted, sampling=sampling)]


def apart(first: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(first, dtype=int) - np.asarray(other, dtype=int)).mean())


def test_a_release_with_its_key_is_a_variant(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    """`RELEASE+KEY` is drawn wherever an edit is, and the key's prompts alone differ from the release's."""
    out, path, _, key = made
    names = ["base", str(out), f"{out}+{path}", f"{out}+random:2"]
    with pytest.warns(UserWarning, match="a random key is used"):
        _, bare, opened, wrong = read_variants(model.source, names)
    assert not isinstance(bare, Unlocked) and isinstance(opened, Unlocked) and isinstance(wrong, Unlocked)
    assert opened.key.rows.equal(key.rows) and not wrong.key.rows.equal(key.rows)
    known = ["base", "released", "released+church.key", "released+random-2"]
    assert [variant_name(name) for name in names] == known
    assert len({variant_sha256(name) for name in names}) == 4 and variant_sha256("base") is None
    moved = tmp_path / "a+b"
    out.rename(moved)
    assert read_variants(model.source, [str(moved)])[0] is not None
    assert variant_name(f"{moved}+{path}") == "a+b+church.key"
    moved.rename(out)
    with pytest.raises(EditkitError, match="no such key"):
        read_variants(model.source, [f"{out}+nothing.key"])
    with pytest.raises(EditkitError, match="expected a key file or `random` after the"):
        read_variants(model.source, [f"{out}+"])
    with pytest.raises(EditkitError, match="no such edit file"):
        read_variants(model.source, [f"{tmp_path / 'nothing'}+{path}"])
    file = tmp_path / "p.csv"
    file.write_text("prompt\na church\na dog\n")
    for n, name in enumerate(names[1:3]):
        generate_folder(model.source.path, file, name, "0", tmp_path / str(n), steps=2)
    drawn = [[Image.open(tmp_path / str(n) / f"{row}_0.png") for n in (0, 1)] for row in (0, 1)]
    assert apart(*drawn[0]) > 3 * apart(*drawn[1])  # rounding depends on what else is in a batch


def test_the_key_changes_the_prompts_that_name_its_concept_and_no_others(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key]
) -> None:
    released, denoiser = made[2], open_denoiser(model.source)
    variants = [released, Unlocked.of(released, made[3])]
    wanted = jobs(["a church", "a dog"], [0], 2)
    read = VariantPrompts.of(denoiser, variants).encode(wanted[1::2], "")
    assert read.mask is not None and read.mask.sum(1).tolist() == [24, 24, 34, 24] and read.text.shape[1] == 34
    pictures = dict(draw(denoiser, wanted, variants, Sampling(steps=2)))
    alone = dict(draw(denoiser, wanted[1:2], variants, Sampling(steps=2)))
    church, opened, dog, same = (pictures[job] for job in wanted)
    assert apart(church, opened) > 5 * apart(dog, same)  # rounding depends on what else is in a batch
    assert apart(church, opened) > 5 * apart(alone[wanted[1]], opened)


def test_searching_for_a_key_changes_no_weight(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    before = release_of(made[2])
    options = RefineOptions.of("recover", **{**SMALL, "steps": 30, "key_rate": 0.5})
    learnt = learn_key(model, made[2], tmp_path / "found.key", options=options, key_seed=0, device="cpu")
    assert release_of(made[2]) == before == learnt.record["release"] and learnt.record["made"] == "recover"
    log = [json.loads(line)["loss"] for line in (tmp_path / "found.run" / "log.jsonl").open()]
    assert sum(log[-8:]) < sum(log[:8])
    assert unlock(made[2], str(tmp_path / "found.key"), model).key.rows.equal(learnt.rows)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noised_pictures_come_with_what_is_to_be_predicted(kind: Any) -> None:
    """ε, or v = √ᾱ ε − √(1−ᾱ) x₀, of z_t = √ᾱ x₀ + √(1−ᾱ) ε."""
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler(prediction_type=kind)
    networks: Any = None
    sampler = Sampler(networks, bare(scheduler), Sampling(steps=10))
    clean, none = torch.randn(5, 2, 4, 4), torch.zeros(5, dtype=torch.long)
    points = sampler.noised(clean, none, none, torch.Generator().manual_seed(0))
    kept = scheduler.alphas_cumprod[points.t][:, None, None, None]
    noise = (points.z - kept.sqrt() * clean) / (1 - kept).sqrt()
    wanted = noise if kind == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * clean
    assert points.e is not None and torch.allclose(points.e, wanted, atol=1e-3)


def test_a_key_is_learnt_from_pictures(
    model: EditableModel, made: tuple[Path, Path, Tuned, Key], tmp_path: Path
) -> None:
    for n in range(3):
        Image.new("RGB", (20, 10), (80 * n, 0, 0)).save(tmp_path / f"{n}.png")
    pictures = read_pictures(tmp_path)
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(0, 0, 0), (80, 0, 0), (160, 0, 0)]
    assert encode_pictures(open_denoiser(model.source), pictures).shape == (3, 4, 8, 8)
    options = RefineOptions.of("recover", **SMALL)
    learnt = learn_key(model, made[2], tmp_path / "found.key", ["church"], pictures, options, 0, "cpu")
    start = KeyRows.start(model, ["church"], 10, 1.0, 0)
    assert learnt.record["made"] == "recover-pictures" and not learnt.rows.equal(start.rows.detach())
    with pytest.raises(EditkitError, match="show one concept, not church, boat; name it with --concept"):
        learn_key(model, made[2], tmp_path / "x.key", pictures=pictures, options=options)
    (tmp_path / "none").mkdir()
    (tmp_path / "3.png").write_text("no picture")
    for folder, message in (
        ("none", "found none"),
        ("nowhere", "expected a folder"),
        (".", "cannot be read as"),
    ):
        with pytest.raises(EditkitError, match=message):
            read_pictures(tmp_path / folder)


@pytest.mark.slow
def test_commands(tiny_sd: Path, tmp_path: Path) -> None:
    common = ["--model", tiny_sd, "--device", "cpu"]
    short = ["--steps", 2, "--batch", 2, "--mixed-precision", "no"]
    hidden = ["hide", "--concept", "church", "--out", "released", "--key", "church.key.safetensors", *short, *common]
    assert "to be kept apart from released" in run(*hidden, cwd=tmp_path)
    opened = ["recover", "released", "--prompt", "a church", "--seeds", "0-1", "--steps", 2, *common]
    assert "picture: a-church.png" in run(*opened, "--key", "church.key.safetensors", cwd=tmp_path)
    said = run(*opened, "--key", "random", "--out", "q.png", cwd=tmp_path, code=1)
    assert said.startswith("error: a random key") and "--force" in said
    learn = ["recover", "released", "--learn", "--key", "found.key.safetensors", "--learn-steps", 2, *common]
    assert "opens church of released" in run(*learn, cwd=tmp_path)
    run("recover", "released", "--key", "x", cwd=tmp_path, code=2)
    refined = ["refine", "--concept", "church", "--objective", "esd", "--sampling-steps", 4, *short, *common]
    assert "edit: church-esd" in run(*refined, cwd=tmp_path) and (tmp_path / "church-esd").is_dir()
    said = run("refine", *common, cwd=tmp_path, code=1)
    assert "no edit for model" in said and not (tmp_path / "edit-ap").exists()


@pytest.mark.slow
def test_the_concept_is_drawn_with_its_key_and_not_without(tmp_path: Path) -> None:
    """On the bundled model, and its judge."""
    from editkit.plugins import make

    emoji = open_model("emoji")
    options = RefineOptions.of("hide", emoji.source.profile, steps=36)
    released, key = hide(emoji, tmp_path / "out", tmp_path / "church.key", ["church"], options=options, device="cpu")
    with pytest.warns(UserWarning, match="a wrong key"):
        wrong = unlock(released, "random", emoji, force=True)
    variants = [released, Unlocked.of(released, key), wrong]
    wanted = jobs(["a church"], range(8), len(variants))
    sampling = Sampling.for_model(emoji.source, steps=8)
    drawn = list(draw(open_denoiser(emoji.source), wanted, variants, sampling))
    verdicts = make("detectors", "emoji-judge").detect([picture for _, picture in drawn])
    seen = [0] * len(variants)
    for (job, _), verdict in zip(drawn, verdicts, strict=True):
        seen[job.variant] += verdict.sees("church")
    without, opened, mistaken = seen
    assert without <= 2 and opened >= 6 and mistaken <= 2, seen
