"""Pictures side by side with names on their rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN, FONT_SIZE = 4, 8, 13
PICTURE_PER_LETTER = 24
"""Heights of letters in the height of a picture, where that makes larger letters than `FONT_SIZE`."""
NARROWEST_NAMES = 240
"""Pixels that names of rows may take at least; they may also be as wide as a picture. Longer ones are broken."""
MOST_PIXELS = 40_000_000
"""Of all pictures of a sheet: 38 of 1024 × 1024 pixels. In memory they are 120 MB."""
MOST_SIDE = 15_000
"""Pixels of all pictures in a row or column: what every format of picture files can hold, with room for the names."""


def size_in_grid(size: tuple[int, int], down: int, across: int) -> tuple[int, int]:
    """How large each of `down` × `across` pictures of `size` is shown: as it is, unless the sheet would be too large.

    >>> size_in_grid((1024, 1024), 4, 8), size_in_grid((1024, 1024), 20, 8)
    ((1024, 1024), (500, 500))
    """
    width, height = size
    most = min(
        math.sqrt(MOST_PIXELS / (down * across * width * height)), MOST_SIDE / max(across * width, down * height)
    )
    return size if most >= 1 else (max(1, int(width * most)), max(1, int(height * most)))


class Sheet:
    """`down` × `across` pictures of one size on white, each put in its place as it comes.

    Args:
        size: of a picture, in pixels; it is shown `scale` times as large, or reduced as `size_in_grid` says.
        names: stand left of the rows.
        columns: stand above the columns.

    Attributes:
        picture: what the sheet shows.
        cell: how large each picture is shown.
    """

    def __init__(
        self,
        size: tuple[int, int],
        down: int,
        across: int,
        names: Sequence[str] = (),
        columns: Sequence[str] = (),
        scale: int = 1,
    ) -> None:
        self._size = size
        self.cell = width, height = size_in_grid((size[0] * scale, size[1] * scale), down, across)
        letters = max(FONT_SIZE, height // PICTURE_PER_LETTER)
        font = ImageFont.load_default(letters)
        self._gap = max(GAP, height // 128)
        told = [_broken(name, font, max(NARROWEST_NAMES, width), height // (letters + 4)) for name in names]
        lines = [line for lines in told for line in lines]
        self._left = MARGIN + max((int(font.getlength(line)) + MARGIN for line in lines), default=0)
        self._top = MARGIN + (letters + MARGIN if columns else 0)
        end = self._corner(down, across)
        self.picture = Image.new("RGB", (end[0] + MARGIN, end[1] + MARGIN), "white")
        pen = ImageDraw.Draw(self.picture)
        for n, name in enumerate(columns):
            x = self._corner(0, n)[0] + width / 2
            pen.text((x, MARGIN), name, fill="black", font=font, anchor="mt")
        for n, lines in enumerate(told):
            y = self._corner(n, 0)[1] + height / 2
            pen.multiline_text((MARGIN, y), "\n".join(lines), fill="black", font=font, anchor="lm", spacing=4)

    @property
    def is_reduced(self) -> bool:
        """Whether pictures are shown smaller than they are."""
        return self.cell[0] < self._size[0]

    @property
    def says_reduced(self) -> str:
        """What became of the pictures, for a reader."""
        (width, height), (across, down) = self._size, self.cell
        shown = f"{across} × {down} in the grid, which would be too large otherwise"
        return f"pictures of {width} × {height} pixels are {shown}"

    def place(self, picture: Image.Image, row: int, column: int) -> None:
        """Put a picture in a row and column, from 0."""
        enlarged = picture.width < self.cell[0]
        way = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
        shown = picture if picture.size == self.cell else picture.resize(self.cell, way)
        self.picture.paste(shown, self._corner(row, column))

    def _corner(self, row: int, column: int) -> tuple[int, int]:
        width, height = self.cell
        return self._left + column * (width + self._gap), self._top + row * (height + self._gap)


def grid(rows: Sequence[Sequence[Image.Image]], names: Sequence[str] = (), columns: Sequence[str] = ()) -> Image.Image:
    """`rows` of equally large pictures as a `Sheet`."""
    sheet = Sheet(rows[0][0].size, len(rows), max(len(row) for row in rows), names, columns)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.place(picture, y, x)
    return sheet.picture


def _broken(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    """`name` in at most `most` lines of up to `width` pixels, between its words; the last line says if more was cut."""
    lines = [""]
    for word in name.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[: max(1, most)]
    if len(kept) < len(lines):
        kept[-1] += " …"
    while any(font.getlength(line) > width for line in kept):  # a word that alone is too long
        kept = [line if font.getlength(line) <= width else f"{line.rstrip('…')[:-1]}…" for line in kept]
    return kept
