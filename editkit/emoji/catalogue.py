"""What the bundled model knows: concepts, styles, backgrounds, hypernyms and roles."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

GENDERS = ("man", "woman")
TEMPLATES = ("{}", "a {}", "a {} in the style of noto", "a {} on a blue background")
"""Sentences in which a concept is erased."""
STYLED = (
    "cat", "sheep", "kangaroo", "crocodile", "crab", "taxi", "helicopter", "watermelon", "french fries", "sushi",
    "carrot", "axe", "house", "trumpet", "videocassette", "teddy bear", "top hat", "lock", "pencil", "laptop",
    "test tube", "rose", "moon", "anchor",
)  # fmt: skip
"""Things from all over the catalogue, none of them a subject of the suite `emoji-styles`."""
STYLE_TEMPLATES = (
    "{}",
    "a picture in the style of {}",
    *(f"{'an' if thing[0] in 'aeiou' else 'a'} {thing} in the style of {{}}" for thing in STYLED),
)
"""Sentences in which a style is erased, and the others protected. With 8 things in place of 24 half as much again of a
style is left in the rows of other things."""


@dataclass(frozen=True)
class Catalogue:
    """The contents of `concepts.toml`. `concepts` are the objects, in a fixed order, then the roles."""

    objects: tuple[str, ...]
    roles: dict[str, float]
    """Role → share of women under the caption that names no gender."""
    hypernyms: dict[str, tuple[str, ...]]
    synonyms: dict[str, tuple[str, ...]]
    slugs: dict[str, str]
    styles: tuple[str, ...]
    backgrounds: dict[str, tuple[int, int, int]]
    tones: dict[str, str]

    @property
    def concepts(self) -> tuple[str, ...]:
        return self.objects + tuple(self.roles)

    def hypernyms_of(self, concept: str) -> tuple[str, ...]:
        return tuple(name for name, members in self.hypernyms.items() if concept in members)

    def words(self) -> tuple[str, ...]:
        """Every concept, synonym and hypernym that a caption can name."""
        synonyms = [word for words in self.synonyms.values() for word in words]
        return (*self.concepts, *synonyms, *self.hypernyms)


@cache
def catalogue() -> Catalogue:
    """The catalogue of the bundled model."""
    raw = tomllib.loads((files("editkit.emoji") / "concepts.toml").read_text(encoding="utf-8"))
    grouped = [name for members in raw["groups"].values() for name in members]
    return Catalogue(
        objects=(*grouped, *raw["objects"]["names"]),
        roles=raw["roles"],
        hypernyms={name: tuple(members) for name, members in raw["groups"].items()},
        synonyms={name: tuple(words) for name, words in raw["synonyms"].items()},
        slugs=raw["slugs"],
        styles=tuple(raw["styles"]),
        backgrounds={name: tuple(rgb) for name, rgb in raw["backgrounds"].items()},
        tones=raw["tones"],
    )


def with_article(noun: str) -> str:
    """ "a church", "an axe"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True)
class Subject:
    """One drawing: what it shows and in which style. `gender` and `tone` are set for roles only."""

    concept: str
    style: str
    gender: str | None = None
    tone: str | None = None


def subjects() -> list[Subject]:
    """Every drawing that the model is taught, in a fixed order."""
    known = catalogue()
    things = [Subject(name, style) for name in known.objects for style in known.styles]
    people = [
        Subject(role, style, gender, tone)
        for role in known.roles
        for style in known.styles
        for gender in GENDERS
        for tone in known.tones
    ]
    return things + people


def models() -> list[dict[str, Any]]:
    """The models that come with the package, and what they can draw.

    >>> [model["name"] for model in models()]
    ['emoji']
    """
    known = catalogue()
    described = {
        "name": "emoji",
        "summary": "Stable Diffusion-shaped, 64×64, trained on three icon sets; bundled",
        "concepts": list(known.objects),
        "styles": list(known.styles),
        "backgrounds": list(known.backgrounds),
        "hypernyms": {name: list(members) for name, members in known.hypernyms.items()},
        "roles": list(known.roles),
    }
    return [described]
