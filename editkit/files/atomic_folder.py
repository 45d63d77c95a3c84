"""Write a folder whole or not at all."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from editkit.errors import EditkitError

MARK = "model_index.json"
"""What a folder must hold to be replaced with `force`, unless told otherwise: a pipeline, and nothing but it, is ever
deleted."""


def check_free_folder(path: Path, force: bool = False, mark: str = MARK) -> None:
    """Refuse a place that cannot be written, or that would be overwritten unasked. Call it before the work starts."""
    if path.exists() and not path.is_dir():
        raise EditkitError(f"{path}: expected a folder name, this is a file; give another --out")
    if path.is_dir() and any(path.iterdir()):
        if not force:
            raise EditkitError(f"{path} exists and is not overwritten unasked; give another --out, or --force")
        if not (path / mark).is_file():
            what = "pipeline" if mark == MARK else "report"
            raise EditkitError(f"{path}: a folder that is no {what} (no {mark}) is not replaced; give another --out")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise EditkitError(f"{path}: {parent} cannot be written; give another --out")


def write_folder_atomic(path: Path, fill: Callable[[Path], None], force: bool = False, mark: str = MARK) -> None:
    """`fill(part)` fills a temporary folder beside `path`, which then takes its name.

    A process killed at any moment leaves the old folder or the new one, and perhaps the temporary one. Only on systems
    other than Linux there is, when an old folder is replaced, a moment between two renames without either.

    Raises:
        EditkitError: see `check_free_folder`, or the disk is full or read-only; nothing is left.
    """
    check_free_folder(path, force, mark)
    path = path.resolve()
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.mkdir(parents=True)
        fill(part)
        _check_replaced(path, part)
        _sync(part)
        _put(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise EditkitError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_replaced(old: Path, new: Path) -> None:
    """Refuse to delete, with an old pipeline, what somebody else put beside it."""
    foreign = {file.name for file in old.iterdir()} - {file.name for file in new.iterdir()} if old.is_dir() else set()
    if foreign:
        raise EditkitError(f"{old}: holds {sorted(foreign)[0]}, which the new folder does not; give another --out")


def _put(part: Path, path: Path) -> None:
    """Give `part` the name `path`; what had it is afterwards called `part`."""
    if not path.exists():
        part.rename(path)
    elif not _exchange(part, path):
        old = part.with_name(part.name + ".old")
        path.rename(old)
        part.rename(path)
        old.rename(part)


def _exchange(first: Path, other: Path) -> bool:
    """Swap two names in one step, where the system can: `renameat2` of Linux with `RENAME_EXCHANGE`."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2
    return rename is not None and rename(here, os.fsencode(first), here, os.fsencode(other), exchange) == 0


def _sync(folder: Path) -> None:
    """Everything in `folder` to the disk. Linked files are there already, and syncing them again costs nothing."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(Path(root, name), "rb") as stream:
                os.fsync(stream.fileno())
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
