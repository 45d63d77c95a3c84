"""Pictures side by side with names on their rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN, FONT_SIZE = 4, 8, 13


def grid(
    rows: Sequence[Sequence[Image.Image]], names: Sequence[str] = (), columns: Sequence[str] = (), scale: int = 1
) -> Image.Image:
    """`rows` of equally large pictures on white. `names` stand left of the rows, `columns` above the columns."""
    font = ImageFont.load_default(FONT_SIZE)
    width, height = (side * scale for side in rows[0][0].size)
    left = MARGIN + max((int(font.getlength(name)) + MARGIN for name in names), default=0)
    top = MARGIN + (FONT_SIZE + MARGIN if columns else 0)
    across = max(len(row) for row in rows)
    size = (left + across * (width + GAP) + MARGIN, top + len(rows) * (height + GAP) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for n, name in enumerate(columns):
        pen.text((left + n * (width + GAP) + width / 2, MARGIN), name, fill="black", font=font, anchor="mt")
    for y, row in enumerate(rows):
        if names:
            pen.text((MARGIN, top + y * (height + GAP) + height / 2), names[y], fill="black", font=font, anchor="lm")
        for x, picture in enumerate(row):
            big = picture.resize((width, height), Image.Resampling.NEAREST) if scale > 1 else picture
            sheet.paste(big, (left + x * (width + GAP), top + y * (height + GAP)))
    return sheet
