"""Erasing by picture, on the bundled model: `python -m editkit.emoji.pictures_table --work DIR`.

The pictures are the original icons, not what the model draws: objects on backgrounds, two icons side by side with a
mask, and three pictures of one style. `DIR` keeps the icons, inversions and edits; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from editkit.concepts.templates import fill
from editkit.drawing.grid import grid
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.embeddings.learned import Learned
from editkit.emoji.catalogue import Subject, catalogue, subjects
from editkit.emoji.icons import PICTURE_SIZE, render_all
from editkit.emoji.pictures import Composer
from editkit.emoji.sheets import markdown, whole_percent
from editkit.erasure.erase import erase
from editkit.evaluation.statistics.intervals import rate_interval
from editkit.files.atomic import write_text_atomic
from editkit.inverting.invert import invert
from editkit.inverting.options import InvertOptions
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.attack import attack
from editkit.redteam.request import judge_of
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_edit, save_edit
from editkit.variants.learned_file import load_learned, save_learned
from editkit.variants.named import BASE

OBJECTS = {"church": ("house", "castle"), "trumpet": ("guitar", "average")}
"""What is shown → the coarse word that is told, and the guide."""
PAIRS = {"dog": "pizza", "church": "umbrella"}
"""What masks hide → what stays."""
STYLE, FROM, OTHER, SHOWN = "twemoji", "noto", "fluent", ("guitar", "lion", "house")
"""The style of three pictures, the style that learning starts from, one that must stay, and what the three show."""
KEPT = ("pizza", "umbrella", "fish", "rocket", "rose", "piano", "crown", "owl")
BACKGROUNDS = (0, 4, 5, 7)
SEEDS = tuple(range(10))
FEW = SEEDS[:2]
LEARNING = InvertOptions(steps=100, restarts=3, rate=0.02, points=4, held=24)
MASKED = replace(LEARNING, steps=60, restarts=2)
CERTIFYING: dict[str, Any] = {"iterations": 40, "points": 4, "target_images": 4}
CERTIFIED = ("church",)
"""What is certified by inverting again, which takes longest."""
SHEET = 3
"""Pictures in a row of the sheet."""
LAYOUTS = ("beside", "halves")
"""Two small icons beside each other, and the left half of one icon beside the right half of another. The model was
taught large icons alone."""
SHOWN_PAIRS = (("dog", "beside"), ("dog", "halves"), ("church", "halves"))
SMALL = 30
"""Size of a small icon."""


@dataclass(frozen=True)
class Studio:
    """The model, who judges it, and where everything is kept."""

    model: EditableModel
    arena: Arena
    work: Path

    @classmethod
    def of(cls, work: Path) -> Studio:
        model = open_model("emoji")
        sampling = Sampling.for_model(model.source)
        judge = judge_of(model.profile, "")
        return cls(model, Arena(model, None, open_denoiser(model.source, "cpu"), judge, sampling, SEEDS), work)

    def learned(self, name: str, make: Callable[[], Learned]) -> Learned:
        path = self.work / f"{name}.ti.safetensors"
        if not path.is_file():
            save_learned(make(), path)
        return load_learned(path)

    def edit(self, name: str, make: Callable[[], Edit]) -> Edit:
        path = self.work / f"{name}.safetensors"
        if not path.is_file():
            save_edit(make(), path)
        return _loaded(path)

    def digits(self, edit: Edit | None, words: Sequence[str], seeds: Sequence[int] = SEEDS) -> dict[str, str]:
        """Word → of "a WORD" a digit a seed: is it seen? Of the unedited model each is drawn once."""
        path = self.work / "before.json"
        known: dict[str, str] = json.loads(path.read_text()) if edit is None and path.is_file() else {}
        names = {word: f"{word} {len(seeds)}" for word in words}
        missing = [word for word in words if names[word] not in known]
        arena, targets = self.arena.of(edit), [Target.of(word, self.model.profile, ["a {}"]) for word in missing]
        drawn = arena.draw([each.prompts[0] for each in targets], seeds) if targets else []
        for n, target in enumerate(targets):
            known[names[target.concept]] = _digits(arena.judged(drawn[n * len(seeds) : (n + 1) * len(seeds)], target))
        if edit is None:
            write_text_atomic(path, json.dumps(known), force=True)
        return {word: known[names[word]] for word in words}

    def digits_of_token(self, edit: Edit | None, learned: Learned, word: str) -> str:
        """The same of "a TOKEN"."""
        target = Target.of(word, self.model.profile, ["a {}"])
        return _digits(self.arena.judged(self.drawn_of_token(edit, learned, SEEDS), target))

    def drawn_of_token(self, edit: Edit | None, learned: Learned, seeds: Sequence[int]) -> list[Image.Image]:
        """Pictures of "a TOKEN"."""
        rows = self.model.knowing({learned.token: learned.best}).encoder.encode([f"a {learned.token}"])[0]
        raw = Condition(rows.float()[None])
        return self.arena.of(edit).draw_rows([(raw, None, Shot(seed)) for seed in seeds])

    def styles(self, edit: Edit | None, said: str, learned: Learned | None = None) -> list[str]:
        """The style that the judge sees in pictures "in the style of" `said`, of eight things, a seed each."""
        model = self.model if learned is None else self.model.knowing({learned.token: learned.best})
        prompts = [fill(f"a {{}} in the style of {said}", word) for word in (*SHOWN, *KEPT[:5])]
        rows = model.encoder.encode(prompts)
        arena = self.arena.of(edit)
        drawn = arena.draw_rows([(Condition(each.float()[None]), None, Shot(n)) for n, each in enumerate(rows)])
        assert arena.judge is not None
        return [each.attributes["style"] for each in arena.judge.detect(drawn)]

    def certified(self, edit: Path, word: str) -> dict[str, str]:
        """`cce` against an edit and the unedited model: a digit a picture."""
        found = attack([str(edit)], [word], ["cce"], self.model, pictures=len(SEEDS), **CERTIFYING)
        return {each.variant: _digits(each.hits) for each in found.attempts}


def pictures_of(wanted: Sequence[Subject], backgrounds: Sequence[int], work: Path) -> list[Image.Image]:
    """Original icons, one on each background."""
    composer, which = Composer(render_all(wanted, work)), torch.arange(len(wanted))
    made = composer(which, torch.tensor(list(backgrounds)), torch.zeros(len(wanted), 2, dtype=torch.long))
    pixels = ((made.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    return [Image.fromarray(each) for each in pixels]


def icons_of(word: str, work: Path) -> list[Image.Image]:
    """Four pictures of an object: its three icons, the first one twice, on four backgrounds."""
    mine = [each for each in subjects() if each.concept == word]
    return pictures_of([*mine, mine[0]], BACKGROUNDS, work)


def pairs_of(hidden: str, stays: str, layout: str, work: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """Two icons in one picture, in three styles, and masks of which the first one's half is black."""
    known, colours = list(subjects()), list(catalogue().backgrounds.values())
    middle, pictures, masks = PICTURE_SIZE // 2, [], []
    left = np.zeros((PICTURE_SIZE, PICTURE_SIZE), np.uint8)
    left[:, :middle] = 255
    for style, background in zip(catalogue().styles, BACKGROUNDS, strict=False):
        two = [next(each for each in known if (each.concept, each.style) == (word, style)) for word in (hidden, stays)]
        if layout == "halves":
            first, second = pictures_of(two, [background] * 2, work)
            picture = Image.composite(first, second, Image.fromarray(left))
        else:
            picture = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), tuple(colours[background]))
            for n, icon in enumerate(render_all(two, work)):
                drawn = Image.fromarray(icon).resize((SMALL, SMALL), Image.Resampling.LANCZOS)
                picture.paste(drawn, (1 + n * middle, (PICTURE_SIZE - SMALL) // 2), drawn)
        pictures.append(picture)
        masks.append(Image.fromarray(255 - left))
    return pictures, masks


def measure_object(studio: Studio, word: str) -> dict[str, Any]:
    told, guide = OBJECTS[word]
    learned = studio.learned(
        word, lambda: invert(studio.model, icons_of(word, studio.work), told, options=LEARNING, device="cpu")
    )
    edit = studio.edit(f"{word}-erased", lambda: erase(studio.model, [], pictures=[learned], guides=[guide]))
    kept = [each for each in KEPT if each != word]
    return {
        "told": told, "guide": guide, "near": edit.record["pictures"][told]["near"],
        "losses": learned.record["losses"], "starts": learned.record["starts"],
        "token": {"before": studio.digits_of_token(None, learned, word),
                  "after": studio.digits_of_token(edit, learned, word)},
        "word": _both(studio, edit, word),
        "kept": _kept(studio, edit, kept),
        "cce": studio.certified(studio.work / f"{word}-erased.safetensors", word) if word in CERTIFIED else {},
    }  # fmt: skip


def measure_pair(studio: Studio, hidden: str, layout: str) -> dict[str, Any]:
    stays = PAIRS[hidden]
    name = f"{hidden}-{stays}-{layout}"

    def learn() -> Learned:
        pictures, masks = pairs_of(hidden, stays, layout, studio.work)
        return invert(studio.model, pictures, hidden, options=MASKED, masks=masks, kept=stays, device="cpu")

    learned = studio.learned(name, learn)
    edit = studio.edit(f"{name}-erased", lambda: erase(studio.model, [], pictures=[learned], preserve=[stays]))
    kept = [each for each in KEPT if each not in (hidden, stays)]
    return {
        "stays": stays, "near": edit.record["pictures"][hidden]["near"], "losses": learned.record["losses"],
        "hidden": _both(studio, edit, hidden),
        "other": _both(studio, edit, stays),
        "kept": _kept(studio, edit, kept),
    }  # fmt: skip


def measure_style(studio: Studio) -> dict[str, Any]:
    def learn() -> Learned:
        known = list(subjects())
        wanted = [next(each for each in known if (each.concept, each.style) == (word, STYLE)) for word in SHOWN]
        pictures = pictures_of(wanted, BACKGROUNDS[: len(SHOWN)], studio.work)
        return invert(studio.model, pictures, FROM, options=replace(LEARNING, restarts=2), style=True, device="cpu")

    learned = studio.learned("style", learn)
    named = replace(learned, word=STYLE)
    edit = studio.edit("style-erased", lambda: erase(studio.model, [], pictures=[named], guides=[FROM]))
    token = learned.token
    return {
        "from": FROM, "shown": list(SHOWN), "losses": learned.record["losses"], "starts": learned.record["starts"],
        "token": {"before": studio.styles(None, token, learned), "after": studio.styles(edit, token, learned)},
        "word": {"before": studio.styles(None, STYLE), "after": studio.styles(edit, STYLE)},
        "other": {"before": studio.styles(None, OTHER), "after": studio.styles(edit, OTHER)},
    }  # fmt: skip


def sheet(studio: Studio, path: Path) -> None:
    """What was shown, and what is drawn before and after: of an object, and of a pair with masks."""
    word, (hidden, stays) = next(iter(OBJECTS)), next(iter(PAIRS.items()))
    seeds = SEEDS[:SHEET]
    names = word, f"{hidden}-{stays}-halves"
    one, two = (load_learned(studio.work / f"{name}.ti.safetensors") for name in names)
    edits = [_loaded(studio.work / f"{name}-erased.safetensors") for name in names]
    pairs, masks = pairs_of(hidden, stays, "halves", studio.work)

    def drawn(edit: Edit, word: str) -> list[Image.Image]:
        return studio.arena.of(edit).draw([f"a {word}"], seeds)

    rows = {
        "shown": icons_of(word, studio.work)[:SHEET],
        "the token": studio.drawn_of_token(None, one, seeds),
        "the token, erased": studio.drawn_of_token(edits[0], one, seeds),
        "pairs": pairs[:SHEET],
        "masks": [mask.convert("RGB") for mask in masks][:SHEET],
        f"a {hidden}, erased": drawn(edits[1], hidden),
        f"a {stays}, erased": drawn(edits[1], stays),
        "the token of pairs": studio.drawn_of_token(None, two, seeds),
        "the same, erased": studio.drawn_of_token(edits[1], two, seeds),
    }
    grid(list(rows.values()), list(rows)).save(path, optimize=True)


def _loaded(path: Path) -> Edit:
    made = load_edit(path)
    assert isinstance(made, Edit)
    return made


def _kept(studio: Studio, edit: Edit, words: Sequence[str]) -> dict[str, dict[str, str]]:
    return {"before": studio.digits(None, words, FEW), "after": studio.digits(edit, words, FEW)}


def _both(studio: Studio, edit: Edit, word: str) -> dict[str, str]:
    return {"before": studio.digits(None, [word])[word], "after": studio.digits(edit, [word])[word]}


def _digits(judged: Sequence[bool | None]) -> str:
    return "".join(str(int(bool(each))) for each in judged)


def _seen(digits: str) -> str:
    """The share that shows it, per cent with a 95 % interval; nothing where nothing was drawn."""
    return "" if not digits else whole_percent(rate_interval([digit == "1" for digit in digits]))


def _gone(digits: str) -> str:
    """The share that does not: ESR-1."""
    return whole_percent(rate_interval([digit == "0" for digit in digits]))


def objects_as_markdown(results: dict[str, Any]) -> str:
    """For the page: of each object what is seen of the token and gone of the word, and what is kept."""
    heads = ("pictures of", "told", "becomes", "token before", "token after", "ESR-1 of the word", "PSR-1 before",
             "PSR-1 after", "cce before", "cce after")  # fmt: skip

    def row(word: str, each: dict[str, Any]) -> tuple[str, ...]:
        before, after = ("".join(each["kept"][when].values()) for when in ("before", "after"))
        cce = [digits for name, digits in each["cce"].items() if name != BASE]
        control = [digits for name, digits in each["cce"].items() if name == BASE]
        return (
            word, each["told"], each["guide"], _seen(each["token"]["before"]), _seen(each["token"]["after"]),
            _gone(each["word"]["after"]), _seen(before), _seen(after), _seen("".join(control)), _seen("".join(cce)),
        )  # fmt: skip

    return markdown(heads, [row(word, each) for word, each in results["objects"].items()])


def pairs_as_markdown(results: dict[str, Any]) -> str:
    """For the page: of each pair what is gone of the hidden one, and kept of the other one and of further words."""
    heads = ("layout", "hidden", "before", "ESR-1", "stays", "before", "PSR-1", "others before", "PSR-1")

    def row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
        hidden, layout = name.rsplit(" ", 1)
        before, after = ("".join(each["kept"][when].values()) for when in ("before", "after"))
        return (
            layout, hidden, _seen(each["hidden"]["before"]), _gone(each["hidden"]["after"]), each["stays"],
            _seen(each["other"]["before"]), _seen(each["other"]["after"]), _seen(before), _seen(after),
        )  # fmt: skip

    return markdown(heads, [row(name, each) for name, each in results["pairs"].items()])


def style_as_markdown(results: dict[str, Any]) -> str:
    """For the page: how often the judge sees the style that was said."""
    each, heads = results["style"][STYLE], ("said", "seen", "before", "after")
    said_of = {"token": ("the token", STYLE), "word": (f"“{STYLE}”", STYLE), "other": (f"“{OTHER}”", OTHER)}
    lines = []
    for key, (said, seen) in said_of.items():
        shares = ("".join(str(int(style == seen)) for style in each[key][when]) for when in ("before", "after"))
        lines.append((said, seen, *map(_seen, shares)))
    return markdown(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/bench/pictures.json"))
    parser.add_argument("--work", type=Path, required=True, help="folder for icons, inversions and edits, kept")
    parser.add_argument("--sheet", type=Path, help="picture of what is shown and drawn")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    studio = Studio.of(given.work)
    results: dict[str, Any] = {"learning": LEARNING.record, "masked": MASKED.record, "cce": CERTIFYING,
                               "objects": {}, "pairs": {}, "style": {}}  # fmt: skip
    if given.out.is_file():
        results |= json.loads(given.out.read_text(encoding="utf-8"))
    studied: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
        **{("objects", word): partial(measure_object, studio, word) for word in OBJECTS},
        **{("pairs", " ".join(pair)): partial(measure_pair, studio, *pair) for pair in SHOWN_PAIRS},
        ("style", STYLE): partial(measure_style, studio),
    }
    for (kind, name), measure in studied.items():
        if name not in results[kind]:
            results[kind][name] = measure()
            text = json.dumps(results, ensure_ascii=False, separators=(",", ":")) + "\n"
            write_text_atomic(given.out, text, force=True)
    if given.sheet:
        sheet(studio, given.sheet)
    for table in (objects_as_markdown, pairs_as_markdown, style_as_markdown):
        print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
