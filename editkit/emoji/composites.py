"""Pictures of the original icons, as a user would bring some: one on each background, or two with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from editkit.emoji.catalogue import Subject, catalogue, subjects
from editkit.emoji.icons import PICTURE_SIZE, render_all
from editkit.emoji.pictures import Composer

BACKGROUNDS = (0, 4, 5, 7)
SMALL = 30
"""Size of a small icon."""


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
    """Two icons in one picture, in three styles, and masks in which the first one is black: its half, or its square.

    Args:
        layout: `beside`: two small icons; `halves`: the left half of one large icon and the right half of the other.
    """
    known, colours = list(subjects()), list(catalogue().backgrounds.values())
    middle, pictures, masks = PICTURE_SIZE // 2, [], []
    black = np.zeros((PICTURE_SIZE, PICTURE_SIZE), np.uint8)
    top = (PICTURE_SIZE - SMALL) // 2
    if layout == "halves":
        black[:, :middle] = 255
    else:
        black[top : top + SMALL, 1 : 1 + SMALL] = 255
    for style, background in zip(catalogue().styles, BACKGROUNDS, strict=False):
        two = [next(each for each in known if (each.concept, each.style) == (word, style)) for word in (hidden, stays)]
        if layout == "halves":
            first, second = pictures_of(two, [background] * 2, work)
            picture = Image.composite(first, second, Image.fromarray(black))
        else:
            picture = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), tuple(colours[background]))
            for n, icon in enumerate(render_all(two, work)):
                drawn = Image.fromarray(icon).resize((SMALL, SMALL), Image.Resampling.LANCZOS)
                picture.paste(drawn, (1 + n * middle, top), drawn)
        pictures.append(picture)
        masks.append(Image.fromarray(255 - black))
    return pictures, masks
