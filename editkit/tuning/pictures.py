"""Pictures that a user brings, as latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.errors import EditkitError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def read_pictures(folder: Path) -> list[Image.Image]:
    """The pictures of a folder, in the order of their names.

    Raises:
        EditkitError: no such folder, no picture in it, or one that cannot be read.
    """
    return [read_picture(path) for path in picture_files(folder)]


def picture_files(folder: Path, flag: str = "--pictures") -> list[Path]:
    """The files of a folder that end like pictures, in the order of their names.

    Raises:
        EditkitError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise EditkitError(f"{flag} {folder}: expected a folder of pictures, found none")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise EditkitError(f"{flag} {folder}: expected pictures ({', '.join(ENDINGS)}), found none")
    return files


def read_picture(path: Path, flag: str = "--pictures") -> Image.Image:
    """One picture, in RGB.

    Raises:
        EditkitError: it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise EditkitError(f"{path}: cannot be read as a picture ({error}); take it out of {flag}") from error


@torch.no_grad()
def encode_pictures(denoiser: Denoiser, pictures: Sequence[Image.Image], size: tuple[int, int] | None = None) -> Tensor:
    """Clean latents, `(pictures, channels, h, w)`: each cut to the shape of `size` (height, width), and brought to it;
    None is the model's own."""
    height, width = denoiser.picture_size(size)
    parts = []
    for picture in pictures:
        fitted = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)[None].float() / 127.5 - 1
        parts.append(denoiser.latents_of(pixels))
    return torch.cat(parts)
