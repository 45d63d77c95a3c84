"""One file per format that other programs load. Each has a `write`, and is atomic through `editkit.files.atomic`."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], part: Path, metadata: Mapping[str, str] | None = None) -> None:
    """`save_file`, marked as made with torch, which loaders ask for.

    Raises:
        OSError: the disk is full or the like. safetensors raises its own error for that, which `write_atomic` would
            not know.
    """
    try:
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
            part,
            {"format": "pt", **(metadata or {})},
        )
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error
