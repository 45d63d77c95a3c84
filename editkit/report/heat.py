"""Where two pictures differ, and by how much."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from editkit.errors import EditkitError

STOPS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39),
         (252, 255, 164))  # fmt: skip
"""Colours from no difference to the whole range, evenly spaced: lightness rises steadily, so it reads in grey too."""


@cache
def colours() -> np.ndarray:
    """256 colours, `(256, 3)` uint8, between the `STOPS`."""
    at = np.linspace(0, len(STOPS) - 1, 256)
    planes = [np.interp(at, range(len(STOPS)), channel) for channel in zip(*STOPS, strict=True)]
    return np.stack(planes, axis=1).round().astype(np.uint8)


def difference(first: Image.Image, second: Image.Image) -> np.ndarray:
    """Mean absolute difference of the three channels of every pixel, `(height, width)` in [0, 1]."""
    if first.size != second.size:
        raise EditkitError(f"pictures of {first.size} and {second.size} pixels cannot be compared; draw them alike")
    a, b = (np.asarray(picture.convert("RGB"), dtype=np.int16) for picture in (first, second))
    return np.abs(a - b).sum(axis=2) / (3 * 255)


def heat_map(apart: np.ndarray) -> Image.Image:
    """A `difference` as a picture. Its square root is drawn, so that small differences are seen; the scale is the same
    for all pictures."""
    return Image.fromarray(colours()[(np.sqrt(apart) * 255).round().astype(np.uint8)])


def filter_tables() -> list[str]:
    """The colours of mean differences 0/255 to 255/255 for an SVG filter: one list each of red, green and blue."""
    drawn = colours()[(np.sqrt(np.arange(256) / 255) * 255).round().astype(np.uint8)]
    return [" ".join(f"{value / 255:.3f}" for value in channel) for channel in drawn.T.tolist()]
