"""Pictures to learn from, and masks of what counts of each: both as latents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.errors import EditkitError
from editkit.tuning.latents import Points, joined
from editkit.tuning.pictures import encode_pictures, picture_files, read_picture

AROUND = 1.25
"""Side of the square that is cut out around what masks hide, in longest sides of it: models know things large."""


@dataclass(frozen=True)
class Shown:
    """Pictures, and where there are masks, one of the same size for each: white is what stays, or what counts."""

    pictures: tuple[Image.Image, ...]
    masks: tuple[Image.Image, ...] = ()

    @classmethod
    def read(cls, folder: Path, masks: Path | None = None) -> Shown:
        """The pictures of a folder, and their masks, which have the same names before the ending.

        Raises:
            EditkitError: no picture, one that cannot be read, one without a mask or a mask without one, a mask of
                another size, or one that hides nothing or all.
        """
        files = picture_files(folder)
        pictures = tuple(read_picture(path, "--pictures") for path in files)
        if masks is None:
            return cls(pictures)
        known = {path.stem: path for path in picture_files(masks, "--masks")}
        stems = {path.stem: path for path in files}
        if len(stems) < len(files):
            raise EditkitError(f"--pictures {folder}: two pictures have one name but for their ending; rename one")
        if lone := sorted(stems.keys() - known.keys()):
            raise EditkitError(
                f"{stems[lone[0]]}: expected its mask {masks / lone[0]}.png, found none; add it, or take the picture "
                "out"
            )
        if lone := sorted(known.keys() - stems.keys()):
            raise EditkitError(
                f"{known[lone[0]]}: a mask without a picture of that name in {folder}; take it out of --masks"
            )
        masked = [
            _checked(str(known[path.stem]), read_picture(known[path.stem], "--masks"), picture)
            for path, picture in zip(files, pictures, strict=True)
        ]
        return cls(pictures, tuple(masked))

    @classmethod
    def given(cls, pictures: Sequence[Image.Image], masks: Sequence[Image.Image] | None = None) -> Shown:
        """Pictures, and a mask for each.

        Raises:
            EditkitError: as `read`, of the pictures by their numbers.
        """
        if not pictures:
            raise EditkitError("pictures: expected one or more, got none")
        if masks is None:
            return cls(tuple(pictures))
        if len(masks) != len(pictures):
            raise EditkitError(f"masks: expected one for each of {len(pictures)} pictures, got {len(masks)}")
        pairs = enumerate(zip(masks, pictures, strict=True), 1)
        return cls(tuple(pictures), tuple(_checked(f"mask {n}", *pair) for n, pair in pairs))

    @property
    def sha256(self) -> str:
        """Of all their pixels and sizes."""
        sha = hashlib.sha256()
        for each in (*self.pictures, *self.masks):
            sha.update(f"{each.mode} {each.size} ".encode() + each.tobytes())
        return sha.hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of them."""
        return {"count": len(self.pictures), "masks": bool(self.masks), "sha256": self.sha256}

    def hidden(self) -> Shown:
        """What masks hide, cut out of the pictures; white is now that."""
        turned = [ImageOps.invert(mask) for mask in self.masks]
        squares = [_around(mask) for mask in turned]
        pictures, masks = (
            tuple(each.crop(square) for each, square in zip(some, squares, strict=True))
            for some in (self.pictures, turned)
        )
        return Shown(pictures, masks)

    def latents(
        self, denoiser: Denoiser, flip: bool = False, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Clean latents `(n, channels, h, w)`, with `flip` of every picture and of its mirror image; and what counts of
        each, `(n, 1, h, w)` from 0 to 1, the mean of the mask's pixels there.

        Args:
            size: height and width that pictures are brought to; None is the model's own.
        """
        pictures, masks = list(self.pictures), list(self.masks)
        if flip:
            pictures += [ImageOps.mirror(each) for each in pictures]
            masks += [ImageOps.mirror(each) for each in masks]
        clean = encode_pictures(denoiser, pictures, size)
        return clean, torch.cat([_counts(mask, denoiser, clean) for mask in masks]) if masks else None


def read_shown(pictures: Sequence[Path], masks: Sequence[Path] = ()) -> list[Shown]:
    """The pictures of several folders, with the masks of as many, or without.

    Raises:
        EditkitError: there are some, but other than as many, folders of masks; or as `Shown.read`.
    """
    if masks and len(masks) != len(pictures):
        raise EditkitError(
            f"--masks: {len(masks)} folders for {len(pictures)} of --pictures; give one for each, or none"
        )
    return [Shown.read(*each) for each in (zip(pictures, masks, strict=True) if masks else zip(pictures, strict=True))]


def given_points(
    denoiser: Denoiser, pictures: Sequence[Shown], templates: int, size: tuple[int, int] | None = None
) -> Points | None:
    """Clean latents, at t = 0, of a user's pictures of every concept, or None where there are none: the templates in
    turn, with what of each is the concept where masks tell. Those hide it: it is what does not stay."""
    parts = []
    for concept, shown in enumerate(pictures):
        clean, stays = shown.latents(denoiser, size=size)
        number = torch.arange(len(clean), device=clean.device)
        mask = None if stays is None else 1 - stays
        parts.append(Points(clean, 0 * number, 0 * number + concept, number % templates, mask=mask))
    return joined(parts) if parts else None


def _checked(name: str, mask: Image.Image, picture: Image.Image) -> Image.Image:
    mask = mask.convert("L")
    if mask.size != picture.size:
        raise EditkitError(
            f"{name}: expected the size of its picture, {_size(picture)}, got {_size(mask)}; make them the same size"
        )
    lowest, highest = mask.getextrema()
    if lowest == 255:
        raise EditkitError(f"{name}: is all white, so that it hides nothing; paint black what is to be erased")
    if highest == 0:
        raise EditkitError(f"{name}: is all black, so that nothing stays; paint white what is to stay")
    return mask


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"


def _around(mask: Image.Image) -> tuple[int, int, int, int]:
    """A square around what is white, within the picture: all of it where that is no smaller."""
    width, height = mask.size
    left, top, right, bottom = mask.point([0] * 128 + [255] * 128).getbbox() or (0, 0, width, height)
    side = round(AROUND * max(right - left, bottom - top))
    if side >= min(mask.size):
        return 0, 0, width, height
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
    x, y = min(max(x, 0), width - side), min(max(y, 0), height - side)
    return x, y, x + side, y + side


def _counts(mask: Image.Image, denoiser: Denoiser, clean: Tensor) -> Tensor:
    factor, (h, w) = denoiser.pipe.vae_scale_factor, clean.shape[-2:]
    fitted = ImageOps.fit(mask, (w * factor, h * factor), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.array(fitted)).float()[None, None] / 255
    if not pixels.any():
        raise EditkitError(
            "--masks: nothing is left of what one hides, or of what stays, once its picture is cut to the model's "
            "shape; bring the pictures to that shape"
        )
    return interpolate(pixels, (h, w), mode="area").to(clean)
