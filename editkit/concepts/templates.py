"""Prompts around a concept: the templates that an edit is solved over, and the expansions of the literature."""

from __future__ import annotations

import re
from collections.abc import Sequence

from editkit.errors import EditkitError

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}")
"""Sentences in which a concept is erased, and a vocabulary protected, unless the model brings its own."""

ARTIST_EXPANSIONS = ("{}", "painting by {}", "art by {}", "artwork by {}", "picture by {}", "style of {}")
OBJECT_EXPANSIONS = ("{}", "image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}")
EXPANSIONS = {"none": ("{}",), "artist": ARTIST_EXPANSIONS, "object": OBJECT_EXPANSIONS}
TIME_AUGMENTATIONS = ("{}", "A photo of {}", "An image of {}", "A picture of {}")
NEUTRAL_THINGS = (
    "a photo of a {}", "a picture of a {}", "a photo of the {}", "a rendering of a {}", "a close-up photo of a {}",
    "a good photo of a {}", "a cropped photo of the {}", "the photo of a {}", "a rendition of the {}",
)  # fmt: skip
NEUTRAL_STYLES = (
    "a painting in the style of {}", "a picture in the style of {}", "a rendering in the style of {}",
    "a detailed painting in the style of {}", "the painting in the style of {}", "a good painting in the style of {}",
)  # fmt: skip
"""Captions of pictures that say no more of them than what is learned (after Gal et al. 2022, appendix)."""
VOCABULARY_GUIDES = ("average", "nearest", "in-class", "safe")
"""Guides that are made from the vocabulary, by name."""


def fill(template: str, words: str) -> str:
    """`template` about `words`: "a {}" becomes "an axe" where the word asks for it."""
    if "{}" not in template:
        raise EditkitError(f"template {template!r}: expected one '{{}}' where the concept goes, found none; add it")
    if words[:1].lower() in tuple("aeiou"):
        template = re.sub(r"\ba \{\}", "an {}", template)
    return template.replace("{}", words)


def check_concepts(concepts: Sequence[str]) -> None:
    """Refuse an empty list, an empty name, and one that is there twice: it would weigh double."""
    if not concepts:
        raise EditkitError("no concept given; name at least one with --concept")
    if any(not concept.strip() for concept in concepts):
        raise EditkitError("a concept is empty; expected a word or phrase after --concept")
    known: set[str] = set()
    for concept in concepts:
        if (word := concept.strip().lower()) in known:
            raise EditkitError(f"concept {concept!r} is named twice, which would weigh it double; name it once")
        known.add(word)
