"""`single-file`: the given checkpoint with just the edited tensors' bytes replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from editkit.edits.edit import Edit
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.model.checkpoints.ldm_names import UNET_PREFIX
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.single_file import open_tensors

BLOCK = 1 << 22
"""Bytes copied at a time."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def write(edit: Edit | Tuned, projections: Mapping[str, Tensor], source_file: Path, part: Path, family: str) -> None:
    """Stream `source_file` to `part` with the edited projections in it: every other byte is the same.

    Moving averages of the projections (`model_ema.*`) are edited too, where the checkpoint holds them.

    `projections` are the file's own, as `editkit.model.checkpoints.single_file` reads them.

    Raises:
        EditkitError: the file is no such checkpoint, or does not hold the projections in their shape and dtype.
        OSError: `part` cannot be written.
    """
    names = read_header(source_file).tensors
    prefix = UNET_PREFIX if any(name.startswith(UNET_PREFIX) for name in names) else ""
    edited = {prefix + ldm_name(name, family): one for name, one in edit.weights(projections).items()}
    twins = {name: twin for name in projections if (twin := _averaged(ldm_name(name, family))) in names}
    with open_tensors(source_file) as opened:
        averages = {name: opened.get_tensor(twin) for name, twin in twins.items()}
    edited |= {twins[name]: one for name, one in edit.weights(averages).items()}
    copy_with(source_file, part, edited)


def _averaged(name: str) -> str:
    """The name of a weight's moving average, which some released checkpoints hold beside it: without dots."""
    return "model_ema." + f"diffusion_model.{name}".replace(".", "")


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in a file: its dtype, its shape, and its bytes `start` to `end` from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The layout of a safetensors file, https://github.com/huggingface/safetensors#format."""

    tensors: Mapping[str, Slot]
    size: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        EditkitError: it is none, or its size is not what its header says.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            entries = json.loads(stream.read(length))
        entries.pop("__metadata__", None)
        slots = {
            name: Slot(one["dtype"], tuple(one["shape"]), *(8 + length + at for at in one["data_offsets"]))
            for name, one in entries.items()
        }
        size = max((slot.end for slot in slots.values()), default=8 + length)
        if size != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes, but its header says {size}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EditkitError(
            f"{path}: expected a safetensors file, but it cannot be read ({error}); it may be truncated, fetch it again"
        ) from error
    return Header(slots, size)


def copy_with(source: Path, part: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copy a safetensors file with the bytes of `tensors` in the place of those they replace.

    Order, dtypes, shapes and metadata stay, since the header is copied as it is.

    Raises:
        EditkitError: a tensor is not in the file, or there in another shape or dtype.
        OSError: `part` cannot be written.
    """
    header = read_header(source)
    for name, tensor in tensors.items():
        _check_slot(source, name, tensor, header.tensors.get(name))
    with source.open("rb") as old, part.open("wb") as new:
        for name in sorted(tensors, key=lambda name: header.tensors[name].start):
            slot = header.tensors[name]
            _copy_until(old, new, slot.start)
            new.write(_bytes(tensors[name]))
            old.seek(slot.end)
        _copy_until(old, new, header.size)


def _check_slot(path: Path, name: str, tensor: Tensor, slot: Slot | None) -> None:
    if slot is None:
        raise EditkitError(f"{path}: no tensor {name} in it; is it the model that was read?")
    if slot.shape != tuple(tensor.shape) or DTYPES.get(slot.dtype) != tensor.dtype:
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
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
