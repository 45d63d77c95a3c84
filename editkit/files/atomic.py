"""Write files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from editkit.errors import EditkitError


def check_free(path: Path, force: bool = False) -> None:
    """Refuse a place that cannot be written, or that would be overwritten unasked. Call it before the work starts."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise EditkitError(f"{str(path)[:80]}: cannot be written ({error.strerror}); give another --out") from error
    if is_folder:
        raise EditkitError(f"{path}: expected a file name, this is a folder; add a file name")
    if exists and not force:
        raise EditkitError(f"{path} exists and is not overwritten unasked; give another --out, or --force")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise EditkitError(f"{path}: {folder} cannot be written; give another --out")


def write_atomic(path: Path, write: Callable[[Path], None], force: bool = False) -> None:
    """`write(part)` fills a temporary file beside `path`, which then takes its name.

    Raises:
        EditkitError: the file exists and `force` is not given, or the disk is full or read-only; nothing is left.
    """
    check_free(path, force)
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        part = Path(name)
        write(part)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        raise EditkitError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str, force: bool = False) -> None:
    """`text` in UTF-8, as `write_atomic`."""

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_atomic(path, write, force)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
