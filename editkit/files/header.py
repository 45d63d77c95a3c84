"""The header of a safetensors file, and what a file is that has none: read from bytes alone, without any library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.files.content import LONGEST, content_of

WEIGHTS = (".safetensors", ".sft")
"""Endings of safetensors files. ComfyUI and Flux tools write the short one."""


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
    """What a file holds that stands in the place of weights or JSON, and what to do; None where nothing tells."""
    with path.open("rb") as stream:
        first = stream.read(512)
    if not first:
        return "it is empty; fetch it again"
    content = content_of(first)
    if content is None or content.if_weights is None:
        return None
    return f"it is {content.what}; {content.if_weights}"


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
