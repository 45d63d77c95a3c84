"""The pictures of a report: small ones in memory, large ones as files from the moment that they are drawn."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from editkit.drawing.sampler import Job
from editkit.files.names import file_stem

INSIDE_UP_TO = 256
"""Pixels a side. Pictures up to this are kept in memory and stored in the page, larger ones in files."""


def is_large(size: tuple[int, int]) -> bool:
    """Whether pictures of a size go into files."""
    return max(size) > INSIDE_UP_TO


class Drawn(Mapping[Job, Image.Image]):
    """Job → picture. A large one is read from its file whenever it is asked for, so that two are never in memory.

    The files lie in a hidden folder that goes with this object, until `kept` says where else they are.

    Args:
        names: of the variants, for the names of the files.
        beside: a place on the disk where the files will go; default: the system's folder for temporary files.

    Attributes:
        files: where the large pictures are; without an entry for small ones.
        size: of every picture, in pixels: those of a report are alike.
    """

    def __init__(self, names: Sequence[str], beside: Path | None = None) -> None:
        self._names, self._beside = names, beside
        self._hidden: tempfile.TemporaryDirectory[str] | None = None
        self._small: dict[Job, Image.Image] = {}
        self.files: dict[Job, Path] = {}
        self.size = (0, 0)

    def add(self, job: Job, picture: Image.Image) -> None:
        """Keep a picture that was just drawn."""
        self.size = picture.size
        if not is_large(picture.size):
            self._small[job] = picture
            return
        if self._hidden is None:
            self._hidden = _hidden_folder(self._beside)
        number = len(self.files) + 1
        name = f"{number:04}-{file_stem([job.prompt])}-{job.seed}-{file_stem([self._names[job.variant]])}.png"
        self.files[job] = Path(self._hidden.name, name)
        picture.save(self.files[job])

    def copy_to(self, folder: Path) -> None:
        """Put the files into `folder` too, which is made; on the same disk that costs no space."""
        folder.mkdir()
        for file in self.files.values():
            try:
                os.link(file, folder / file.name)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(file, folder / file.name)

    def kept(self, folder: Path) -> None:
        """From now on read the files from `folder`, where `copy_to` put them."""
        self.files = {job: folder / file.name for job, file in self.files.items()}
        if self._hidden is not None:
            self._hidden.cleanup()
            self._hidden = None

    def __getitem__(self, job: Job) -> Image.Image:
        if job in self._small:
            return self._small[job]
        with Image.open(self.files[job]) as picture:
            return picture.convert("RGB")

    def __iter__(self) -> Iterator[Job]:
        yield from self._small
        yield from self.files

    def __len__(self) -> int:
        return len(self._small) + len(self.files)


def _hidden_folder(beside: Path | None) -> tempfile.TemporaryDirectory[str]:
    if beside is None:
        return tempfile.TemporaryDirectory()
    parent = beside.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return tempfile.TemporaryDirectory(prefix=f".{beside.name}.", dir=parent)
