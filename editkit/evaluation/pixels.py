"""Pictures as tensors, for the metrics that compare pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editkit.errors import EditkitError


def stack(pictures: Sequence[Image.Image], size: int | None = None) -> Tensor:
    """Pictures of one size → `(n, 3, h, w)` uint8; with `size`, each is first made `size`×`size` (bicubic).

    Raises:
        EditkitError: a picture cannot be read, or the sizes differ.
    """
    coloured = [_rgb(picture, size) for picture in pictures]
    sizes = sorted({picture.size for picture in coloured})
    if len(sizes) > 1:
        raise EditkitError(f"pictures: expected one size, found {sizes[0]} and {sizes[1]}; name a size for all")
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in coloured])).permute(0, 3, 1, 2)


def in_parts(pictures: Sequence[Image.Image], batch: int) -> Iterator[Sequence[Image.Image]]:
    """`batch` pictures at a time."""
    for start in range(0, len(pictures), batch):
        yield pictures[start : start + batch]


def _rgb(picture: Image.Image, size: int | None) -> Image.Image:
    try:
        picture = picture.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise EditkitError(f"{getattr(picture, 'filename', 'a picture')}: cannot be read ({error})") from error
    return picture if size is None else picture.resize((size, size), Image.Resampling.BICUBIC)
