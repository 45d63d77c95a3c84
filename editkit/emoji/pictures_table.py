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

from PIL import Image

from editkit.concepts.templates import fill
from editkit.drawing.grid import grid
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.embeddings.learned import Learned
from editkit.emoji.catalogue import subjects
from editkit.emoji.composites import BACKGROUNDS, icons_of, pairs_of, pictures_of
from editkit.emoji.pictures_sheets import OTHER, STYLE, objects_as_markdown, pairs_as_markdown, style_as_markdown
from editkit.erasure.erase import erase
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

GUIDES = {"church": "castle", "trumpet": "average"}
"""What is shown → what it becomes."""
CHOSEN = "-"
"""In place of a word that is told: none is."""
SHOWN_OBJECTS = (
    ("church", "house", 100), ("trumpet", "guitar", 100), ("trumpet", "guitar", 300), ("trumpet", CHOSEN, 100),
)  # fmt: skip
"""What is shown, the coarse word that is told, and in how many steps of each restart it is learned."""
PAIRS = {"dog": "pizza", "church": "umbrella"}
"""What masks hide → what stays."""
FROM, SHOWN = "noto", ("guitar", "lion", "house")
"""The style that learning starts from, and what the three pictures show."""
KEPT = ("pizza", "umbrella", "fish", "rocket", "rose", "piano", "crown", "owl")
SEEDS = tuple(range(10))
FEW = SEEDS[:2]
LEARNING = InvertOptions(steps=100, restarts=3, rate=0.02, points=4, held=24)
MASKED = replace(LEARNING, restarts=2)
CERTIFYING: dict[str, Any] = {"iterations": 40, "points": 4, "target_images": 4}
CERTIFIED = ("church",)
"""What is certified by inverting again, which takes longest."""
SHEET, SHEET_PAIR = 3, "beside-hidden-60"
"""Pictures in a row of the sheet, and the pair that it shows."""
SHOWN_PAIRS = (
    ("dog", "beside", "hidden", 60), ("dog", "halves", "hidden", 60), ("church", "halves", "hidden", 60),
    ("dog", "beside", "whole", 60), ("dog", "halves", "whole", 60), ("church", "halves", "whole", 60),
)  # fmt: skip
"""What is hidden, how, what is learned of it, and how many steps each restart takes for each of its two tokens."""


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


def measure_object(studio: Studio, word: str, told: str, steps: int) -> dict[str, Any]:
    name, options = f"{word}-{told}-{steps}", replace(LEARNING, steps=steps)
    guide, said = GUIDES[word], None if told == CHOSEN else told
    learned = studio.learned(
        name, lambda: invert(studio.model, icons_of(word, studio.work), said, options=options, device="cpu")
    )
    edit = studio.edit(f"{name}-erased", lambda: erase(studio.model, [], pictures=[learned], guides=[guide]))
    kept = [each for each in KEPT if each != word]
    return {
        "begun": learned.word, "guide": guide, "near": edit.record["pictures"][learned.word]["near"],
        "losses": learned.record["losses"], "starts": learned.record["starts"],
        "token": {"before": studio.digits_of_token(None, learned, word),
                  "after": studio.digits_of_token(edit, learned, word)},
        "word": _both(studio, edit, word),
        "kept": _kept(studio, edit, kept),
        "cce": studio.certified(studio.work / f"{name}-erased.safetensors", word) if word in CERTIFIED else {},
    }  # fmt: skip


def measure_pair(studio: Studio, hidden: str, layout: str, masked: str, steps: int) -> dict[str, Any]:
    """No word is told, neither of what is hidden nor of what stays."""
    stays = PAIRS[hidden]
    name, options = f"{hidden}-{stays}-{layout}-{masked}-{steps}", replace(MASKED, steps=steps, masked=masked)

    def learn() -> Learned:
        pictures, masks = pairs_of(hidden, stays, layout, studio.work)
        return invert(studio.model, pictures, options=options, masks=masks, device="cpu")

    learned = studio.learned(name, learn)
    edit = studio.edit(f"{name}-erased", lambda: erase(studio.model, [], pictures=[learned]))
    kept = [each for each in KEPT if each not in (hidden, stays)]
    return {
        "begun": [learned.word, learned.record["stays"]], "near": edit.record["pictures"][learned.word]["near"],
        "losses": learned.record["losses"], "stays": stays,
        "token": studio.digits_of_token(None, learned, hidden),
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
    (word, told, steps), (hidden, stays) = SHOWN_OBJECTS[0], next(iter(PAIRS.items()))
    seeds = SEEDS[:SHEET]
    names = f"{word}-{told}-{steps}", f"{hidden}-{stays}-{SHEET_PAIR}"
    one, two = (load_learned(studio.work / f"{name}.ti.safetensors") for name in names)
    edits = [_loaded(studio.work / f"{name}-erased.safetensors") for name in names]
    pairs, masks = pairs_of(hidden, stays, SHEET_PAIR.split("-")[0], studio.work)

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
        "the token of what is hidden": studio.drawn_of_token(None, two, seeds),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/bench/pictures.json"))
    parser.add_argument("--work", type=Path, required=True, help="folder for icons, inversions and edits, kept")
    parser.add_argument("--sheet", type=Path, help="picture of what is shown and drawn")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    studio = Studio.of(given.work)
    results: dict[str, Any] = {"objects": {}, "pairs": {}, "style": {}}
    if given.out.is_file():
        results |= json.loads(given.out.read_text(encoding="utf-8"))
    results |= {"learning": LEARNING.record, "masked": MASKED.record, "cce": CERTIFYING}
    studied: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
        **{("objects", " ".join(map(str, each))): partial(measure_object, studio, *each) for each in SHOWN_OBJECTS},
        **{("pairs", " ".join(map(str, pair))): partial(measure_pair, studio, *pair) for pair in SHOWN_PAIRS},
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
