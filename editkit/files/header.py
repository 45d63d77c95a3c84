"""The header of a safetensors file, and what a file is that has none: read from bytes alone, without any library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError

WEIGHTS = (".safetensors", ".sft")
"""Endings of safetensors files. ComfyUI and Flux tools write the short one."""

LONGEST = 100_000_000
"""Bytes of the longest header that the format allows."""


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
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        EditkitError: it is none, or its size is not what its header says; the message says what it is instead.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(8)
            length = int.from_bytes(first, "little")
            content = stream.read(min(length, LONGEST))
    except OSError as error:
        raise _unreadable(path, f"it cannot be read ({error.strerror or error}); check the path") from error
    if len(first) < 8 or length > LONGEST or not content.startswith(b"{"):
        raise _unreadable(path, other_content(path) or "its first bytes are those of no known format; give another")
    if 8 + length > size:
        raise _unreadable(path, _truncated(size, 8 + length, "header alone"))
    try:
        header = _parsed(json.loads(content), 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"its header is damaged ({error}); take another copy of it") from error
    if header.size > size:
        raise _unreadable(path, _truncated(size, header.size, "header"))
    if header.size < size:
        more = f"it has {size:,} bytes, but its header says {header.size:,}; something was added, take another copy"
        raise _unreadable(path, more)
    return header


def other_content(path: Path) -> str | None:
    """What a file holds that stands in the place of weights or JSON, and what to do; None where nothing tells.

    Judged by its first bytes: hubs and browsers save pointers and web pages under the names of weights.
    """
    with path.open("rb") as stream:
        first = stream.read(512)
    if not first:
        return "it is empty; fetch it again"
    for starts, what in _CONTENTS:
        if first.lstrip().lower().startswith(starts):
            return what
    return None


_CONTENTS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs",),
        "it is a git-lfs pointer, a note of where the content lies; run `git lfs pull` in its repository",
    ),
    (
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
        "it is a web page, saved in place of the file; download the file itself (on the hub a link with /resolve/, "
        "and accept its licence there first)",
    ),
    (
        (b"pk\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "it is a pickle of torch.save, which can run code when loaded, whatever its name says; convert it to "
        "safetensors on a machine that you can lose",
    ),
    (
        (b"gguf",),
        "it is a GGUF file: quantised blocks, no plain numbers; give the unquantised model, and quantise the export",
    ),
    ((b"\x1f\x8b", b"7z\xbc\xaf", b"rar!", b"\x28\xb5\x2f\xfd"), "it is a compressed archive; unpack it first"),
    ((b"{", b"["), "it is JSON text; give the weights that it belongs to"),
)
"""First bytes, in lower case and without white space before them, and what they say."""


def _parsed(entries: dict[str, Any], start: int) -> Header:
    metadata = entries.pop("__metadata__", None) or {}
    slots = {
        name: Slot(entry["dtype"], tuple(entry["shape"]), *(start + at for at in entry["data_offsets"]))
        for name, entry in entries.items()
    }
    return Header(slots, max((slot.end for slot in slots.values()), default=start), metadata)


def _truncated(has: int, needs: int, what: str) -> str:
    return f"it has {has:,} bytes, but its {what} says {needs:,}; it is truncated, fetch it again"


def _unreadable(path: Path, why: str) -> EditkitError:
    return EditkitError(f"{path}: expected a safetensors file, but {why}")
