"""Copy a safetensors file with other values in it: every other byte stays, and every weight keeps its form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.header import Slot, read_header
from editkit.model.checkpoints.numbers import FLOAT8, PLAIN, open_weights

BLOCK = 1 << 22
"""Bytes copied at a time."""


def rewrite(source: Path, part: Path, before: Mapping[str, Tensor], edited: Mapping[str, Tensor]) -> float:
    """Copy `source` to `part` with `edited` in it, in the form in which the file keeps each weight: float8 stays that.

    Args:
        before: name in the file → the numbers that `Weights.read` gives.
        edited: the same names → new numbers.

    Returns:
        What float8 loses: the largest `‖stored − W'‖ / ‖W' − W‖` of a weight. 0 for other dtypes, whose rounding is
        that of the file itself.

    Raises:
        EditkitError: a tensor is not in the file, there in another shape or dtype, or does not fit float8.
        OSError: `part` cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    lost = 0.0
    with open_weights(source) as opened:
        for name, values in edited.items():
            if name not in opened.header.tensors:
                raise EditkitError(f"{source}: no tensor {name} in it; is it the model that was read?")
            stored, taken = opened.stored(name, values)
            tensors |= stored
            change = float((values - before[name]).norm())
            if taken is not values and change > 0:
                lost = max(lost, float((taken - values).norm()) / change)
    copy_with(source, part, tensors)
    return lost


def copy_with(source: Path, part: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copy a safetensors file with the bytes of `tensors` in the place of those they replace.

    Order, dtypes, shapes and metadata stay, since the header is copied as it is.

    Raises:
        EditkitError: a tensor is there in another shape or dtype.
        OSError: `part` cannot be written.
    """
    header = read_header(source)
    for name, tensor in tensors.items():
        _check_slot(source, name, tensor, header.tensors[name])
    with source.open("rb") as old, part.open("wb") as new:
        for name in sorted(tensors, key=lambda name: header.tensors[name].start):
            slot = header.tensors[name]
            _copy_until(old, new, slot.start)
            new.write(_bytes(tensors[name]))
            old.seek(slot.end)
        _copy_until(old, new, header.size)


def _check_slot(path: Path, name: str, tensor: Tensor, slot: Slot) -> None:
    if slot.shape != tuple(tensor.shape) or (PLAIN | FLOAT8).get(slot.dtype) != tensor.dtype:
        raise EditkitError(
            f"{path}: {name} is {slot.dtype} {list(slot.shape)} there, but the edited one is "
            f"{tensor.dtype} {list(tensor.shape)}; is it the model that was read?"
        )


def _copy_until(old: BinaryIO, new: BinaryIO, end: int) -> None:
    while (left := end - old.tell()) > 0:
        block = old.read(min(left, BLOCK))
        if not block:
            raise EditkitError("the checkpoint became shorter while it was copied; nothing was written")
        new.write(block)


def _bytes(tensor: Tensor) -> bytes:
    """Its bytes, of dtypes too that numpy does not know."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
