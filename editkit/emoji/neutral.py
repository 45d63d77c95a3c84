"""Captions for the bundled model, made by seed: what its users may type."""

from __future__ import annotations

import random

from editkit.emoji.captions import draw_example
from editkit.emoji.catalogue import Catalogue, catalogue, with_article


def neutral_captions(count: int, seed: int = 0) -> list[str]:
    """`count` distinct captions: half as the model was taught, the rest with a colour or a second thing.

    >>> neutral_captions(2, seed=1)[0]
    'a peach in the style of twemoji and a rabbit'
    """
    known, rng = catalogue(), random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made.setdefault(_caption(known, rng))
        made.pop("", None)
    return list(made)


def _caption(known: Catalogue, rng: random.Random) -> str:
    pick, taught = rng.random(), draw_example(known, rng).caption
    if pick < 0.5:
        return taught
    thing, other = rng.sample(known.words(), 2)
    if pick < 0.65:
        return with_article(f"{rng.choice(tuple(known.backgrounds))} {thing}")
    return f"{taught or with_article(other)} and {with_article(thing)}"
