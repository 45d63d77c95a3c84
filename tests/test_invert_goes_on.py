"""Textual inversion without a word, of what masks hide, and where it was stopped: the same result as in one go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

import editkit
from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.inverting import starts
from editkit.inverting.invert import Chosen, invert
from editkit.inverting.options import InvertOptions
from editkit.inverting.points import NoisyPictures, Points, even_times
from editkit.inverting.search import Search
from editkit.inverting.soft_tokens import SoftTokens
from editkit.inverting.starts import best_words, losses_of
from editkit.model.editable import EditableModel, open_model
from editkit.seeds import seeded
from editkit.tuning.masks import Shown
from editkit.variants.learned_file import load_learned
from tests.cli import run
from tests.pictures_of_emoji import noise

BRIEF = InvertOptions(steps=12, restarts=2, rate=0.05, points=2, held=4)
WORDS = ("boat", "church", "dog", "house", "tree", "king", "apple")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "few.toml"
    path.write_text(f"words = {list(WORDS)!r}\n")
    return path


@pytest.fixture(scope="module")
def model(tiny_sd: Path, profile: Path) -> EditableModel:
    """It knows few words."""
    return open_model(tiny_sd, profile=profile)


def half(size: int = 64) -> Image.Image:
    """A mask whose right half is white."""
    mask = Image.new("L", (size, size), 0)
    mask.paste(255, (size // 2, 0, size, size))
    return mask


@torch.no_grad()
def naive_losses(model: EditableModel, words: list[str], templates: tuple[str, ...], points: Points) -> Tensor:
    """One row at a time, of the stock pipeline's prompts and network."""
    denoiser = open_denoiser(model.source)
    pipe, losses = denoiser.pipe, []
    for word in words:
        own = []
        for n in range(len(points)):
            prompt = fill(templates[n % len(templates)], word)
            rows = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
            said = pipe.unet(points.z[n : n + 1], points.t[n], encoder_hidden_states=rows).sample
            own.append(float((said - points.wanted[n : n + 1]).square().mean().log()))
        losses.append(sum(own) / len(own))
    return torch.tensor(losses)


def test_the_word_that_is_chosen_is_the_one_of_the_smallest_loss(model: EditableModel) -> None:
    denoiser, templates = open_denoiser(model.source), ("a {}", "{}")
    clean, _ = Shown.given(noise(2)).latents(denoiser, flip=False)
    pictures = NoisyPictures(clean, denoiser.scheduler)
    points = pictures.at(even_times(5, 1000), seeded(0, 0))
    naive = naive_losses(model, list(WORDS), templates, points)
    torch.testing.assert_close(losses_of(denoiser, WORDS, templates, points), naive, rtol=1e-4, atol=0)
    single = [word for word in WORDS if len(model.encoder.reader.part(word)) == 1]
    chosen = best_words(model, denoiser, templates, pictures, 0, len(single))
    last = pictures.at((200 + (torch.arange(64) + 0.5) * 600 / 64).long(), seeded(0, 0))
    naive = naive_losses(model, single, templates, last)
    assert chosen == [single[n] for n in naive.argsort().tolist()]
    assert best_words(model, denoiser, templates, pictures, 0, 1) == chosen[:1]


def test_of_many_words_the_nearest_of_the_best_are_looked_at_too(
    model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first round is given half of the words and the neighbours of the best are all others, it finds the
    same as with all."""
    denoiser = open_denoiser(model.source)
    clean, _ = Shown.given(noise(2)).latents(denoiser, flip=False)
    pictures = NoisyPictures(clean, denoiser.scheduler)
    expected = best_words(model, denoiser, ("a {}",), pictures, 0, 3)
    monkeypatch.setattr(starts, "FIRST", 4)
    assert best_words(model, denoiser, ("a {}",), pictures, 0, 3) == expected


def test_without_a_word_one_is_chosen_told_and_named(model: EditableModel) -> None:
    told: list[Any] = []
    learned = invert(model, noise(2), options=BRIEF, device="cpu", tell=told.append)
    assert isinstance(told[0], Chosen) and told[0].word == told[1].word == learned.word in WORDS
    assert "the words with which the model denoises best" in str(told[0]) and learned.word in str(told[0])
    assert learned.token == f"<{learned.word}>"
    starts = [each.word for each in told[1:]]
    assert len(set(starts)) == len(starts) == 2
    told.clear()
    pair = invert(model, noise(2), "boat", options=BRIEF, masks=[half()] * 2, device="cpu", tell=told.append)
    assert pair.word == "boat" and not told[0].word and told[0].kept in WORDS


def test_what_masks_hide_is_cut_out_and_learned_alone(model: EditableModel) -> None:
    picture = noise(1)[0]
    mask = Image.new("L", (64, 64), 255)
    mask.paste(0, (4, 40, 24, 60))
    hidden = Shown.given([picture], [mask]).hidden()
    square = (1, 37, 26, 62)  # 25 a side, 5/4 of what is hidden, around it
    assert hidden.pictures[0].tobytes() == picture.crop(square).tobytes()
    assert hidden.masks[0].tobytes() == ImageOps.invert(mask).crop(square).tobytes()
    whole = Shown.given([picture], [half()]).hidden()
    assert whole.pictures[0].tobytes() == picture.tobytes(), "what is hidden fills the picture from edge to edge"

    brief = replace(BRIEF, restarts=1)
    alone = invert(model, [picture], "boat", options=brief, masks=[half()], kept="church", device="cpu")
    turned = invert(model, [picture], "church", options=brief, masks=[ImageOps.invert(half())], kept="boat",
                    device="cpu")  # fmt: skip
    search = Search.of(SoftTokens.of(open_denoiser(model.source), 1), ("a {}",), hidden_of(picture), brief)
    assert search.left is not None and search.hidden is not None
    left, gone = search.left.held.weight, search.hidden.held.weight
    assert left is not None and gone is not None and torch.equal(left + gone, torch.ones_like(left))
    assert alone.record["starts"] == ["boat"] and turned.record["starts"] == ["church"]
    assert not torch.equal(alone.best[0], alone.kept[0][0])
    added = invert(model, [picture], "boat", options=replace(brief, masked="whole"), masks=[half()], kept="church",
                   device="cpu")  # fmt: skip
    assert torch.equal(added.kept[0][0], alone.kept[0][0]) and not torch.equal(added.best[0], alone.best[0])


def hidden_of(picture: Image.Image) -> Shown:
    return Shown.given([picture], [half()])


def same(one: Learned, other: Learned) -> bool:
    mine, theirs = ((*each.restarts, *each.kept) for each in (one, other))
    equal = all(torch.equal(a[0], b[0]) for a, b in zip(mine, theirs, strict=True))
    return equal and one.record == other.record


@pytest.mark.parametrize(("masked", "at"), [(None, (7, 17)), ("hidden", (5, 30))])
def test_what_ctrl_c_stopped_goes_on_to_the_same_result(
    masked: str | None, at: tuple[int, ...], model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At steps of the first restart or the second, of what stays or of what is hidden; more than once."""
    options = BRIEF if masked is None else replace(BRIEF, masked=masked)
    said: dict[str, Any] = {"options": options, "device": "cpu"}
    if masked is not None:
        said |= {"masks": [half()] * 2, "kept": "church"}
    expected = invert(model, noise(2), "boat", tmp_path / "whole.safetensors", **said)
    out, real, asked = tmp_path / "parts.ti.safetensors", NoisyPictures.at, []

    def pressed(self: NoisyPictures, t: Tensor, generator: torch.Generator) -> Points:
        if len(t) == options.points:
            asked.append(1)
            if len(asked) in at:
                raise KeyboardInterrupt
        return real(self, t, generator)

    monkeypatch.setattr(NoisyPictures, "at", pressed)
    for n in range(3):
        learned = invert(model, noise(2), "boat", out, resume=bool(n), **said)
        assert ("stopped" in learned.record) == (n < 2)
    assert same(learned, expected) and same(load_learned(out), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.ti.safetensors", "whole.safetensors"]


def test_what_was_stopped_is_not_begun_anew_unasked_nor_gone_on_with_from_other_pictures(
    model: EditableModel, tmp_path: Path
) -> None:
    out = tmp_path / "boat.ti.safetensors"

    def stop(told: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(model, noise(2), "boat", out, BRIEF, device="cpu", tell=stop)
    with pytest.raises(EditkitError, match=r"boat\.ti\.resume is of an inversion that was stopped; give --resume"):
        invert(model, noise(2), "boat", out, BRIEF, device="cpu")
    with pytest.raises(EditkitError, match=r"is of a run with pictures and masks .*; resume with the same options"):
        invert(model, noise(3), "boat", out, BRIEF, device="cpu", resume=True)
    with pytest.raises(EditkitError, match=r"is of a run with rate 0\.05, not 0\.1"):
        invert(model, noise(2), "boat", out, replace(BRIEF, rate=0.1), device="cpu", resume=True)
    with pytest.raises(EditkitError, match="no checkpoint to resume from"):
        invert(model, noise(2), "boat", tmp_path / "other.safetensors", BRIEF, device="cpu", resume=True)
    with pytest.raises(EditkitError, match="--resume: goes on from what lies beside the file"):
        invert(model, noise(2), "boat", None, BRIEF, device="cpu", resume=True)
    again = invert(model, noise(2), "boat", out, BRIEF, device="cpu", force=True)
    assert same(again, invert(model, noise(2), "boat", options=BRIEF, device="cpu"))


def test_the_command_line_erases_a_folder_and_what_masks_hide_without_a_word(
    profile: Path, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, some in (("toys", noise(2)), ("masks", [half(), half()])):
        (tmp_path / name).mkdir()
        for n, each in enumerate(some):
            each.save(tmp_path / name / f"{n}.png")
    monkeypatch.setattr("editkit.inverting.invert.invert", partial(invert, options=replace(BRIEF, restarts=1)))
    common = ("--model", tiny_sd, "--profile", profile, "--method", "uce", "--protect", "none", "--unchecked")
    done = run("erase", "--pictures", "toys", "--guide", "church", *common, cwd=tmp_path, errors=True)
    assert "begun at the words with which the model denoises best" in done
    (concept,) = editkit.info(tmp_path / "toys-uce.safetensors")["concepts"]
    assert concept in WORDS and (tmp_path / "toys-uce.ti.safetensors").is_file()
    real, asked = NoisyPictures.at, []

    def pressed(self: NoisyPictures, t: Tensor, generator: torch.Generator) -> Points:
        asked.append(1)
        if len(asked) == 30:
            raise KeyboardInterrupt
        return real(self, t, generator)

    monkeypatch.setattr(NoisyPictures, "at", pressed)
    masked = ("erase", "--pictures", "toys", "--masks", "masks", *common, "--out", "e.safetensors")
    assert "the same command goes on" in run(*masked, cwd=tmp_path, code=130)
    assert not (tmp_path / "e.safetensors").exists() and (tmp_path / "e.ti.resume").is_dir()
    run(*masked, cwd=tmp_path)
    assert not (tmp_path / "e.ti.resume").exists()
    told = editkit.info(tmp_path / "e.safetensors")
    assert told["guides"] == ["what the masks leave"] and told["pictures"][told["concepts"][0]]["masked"]
