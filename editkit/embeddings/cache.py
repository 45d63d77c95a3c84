"""Embeddings of a long word list, kept on disk: encoding thousands of words takes longer than the whole edit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from editkit.files.atomic import write_atomic

ENVIRONMENT = "EDITKIT_CACHE"
WORTH_KEEPING = 200


def cache_folder() -> Path:
    """`$EDITKIT_CACHE`, else `editkit` in the user's cache folder."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "editkit"


def cached(fingerprint: str | None, prompts: Sequence[str], length: int, encode: Callable[[], Tensor]) -> Tensor:
    """`encode()` `(n, d)` float32, from disk when the same encoder has done the same prompts before.

    Short lists, and all without a fingerprint, are encoded afresh. A cache that cannot be read or written is as good as
    none.
    """
    if fingerprint is None or len(prompts) < WORTH_KEEPING:
        return encode()
    return kept([fingerprint, str(length), *prompts], encode)


def kept(names: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
    """`encode()`, from disk when it was made under these names before."""
    key = hashlib.sha256("\0".join(names).encode()).hexdigest()[:24]
    path = cache_folder() / f"words-{key}.safetensors"
    try:
        return load_file(path)["rows"]
    except (OSError, SafetensorError, KeyError):
        rows = encode()
    try:
        write_atomic(path, lambda part: save_file({"rows": rows.contiguous()}, part), force=True)
    except Exception:  # a full disk, a read-only home: the edit goes on without
        return rows
    return rows
