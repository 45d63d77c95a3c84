"""What an edit file says of itself, read from its header alone: no tensor, and torch is not even imported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.files.header import read_header
from editkit.variants.folder import edit_file
from editkit.variants.guard_names import split_guard

FORMAT_VERSION = 1
GATED_VERSION = 2
"""Of an edit behind a gate: a reader that knows no gates would take it for the edit alone."""
RECORD_KEY = "editkit"
DOWNS_KEY = "editkit_downs"
"""Which down factor each map uses."""
TUNED_KEY = "editkit_tuned"
"""Fingerprints of the tensors that a gradient stage replaced; edits have none."""


def read_record(path: Path | str) -> dict[str, Any]:
    """The record of an edit file.

    Raises:
        EditkitError: no such file, not a safetensors file, not an edit, or written by a newer editkit.
    """
    path = edit_file(Path(path))
    record = read_json_metadata(path, RECORD_KEY)
    version = record.get("format_version", 0)
    if not isinstance(version, int) or version > GATED_VERSION:
        raise EditkitError(f"{path}: format version {version}, expected at most {GATED_VERSION}; update editkit")
    return record


def record_json(record: Mapping[str, Any]) -> str:
    """A record as it is written: one JSON object. A number that is not finite is null, for JSON has no word for it.

    >>> record_json({"condition": float("inf"), "rank": 2})
    '{"condition": null, "rank": 2}'
    """
    text = json.dumps(record, ensure_ascii=False)
    return json.dumps(json.loads(text, parse_constant=_null), ensure_ascii=False)


def _null(constant: str) -> None:
    """In place of `Infinity` and `NaN`, which earlier versions wrote."""


def info(edit: Path | str) -> dict[str, Any]:
    """What an edit file says of itself: how it was made, for what, and what it does.

    Args:
        edit: an edit file, or a folder of `refine` or `hide`.

    Raises:
        EditkitError: as `read_record`.
    """
    return read_record(edit)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Of an edit file, or of that in a folder of `editkit refine`."""
    with edit_file(Path(path)).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_metadata(path: Path, key: str) -> bool:
    """Whether `path` is a safetensors file whose header has `key`."""
    try:
        return key in read_header(path).metadata
    except EditkitError:
        return False


def _what_else(path: Path) -> str:
    from editkit.model.checkpoints.single_file import is_checkpoint  # imports torch

    return "a checkpoint (give it with --model)" if is_checkpoint(path) else "a safetensors file"


def read_json_metadata(path: Path, key: str) -> dict[str, Any]:
    """One JSON object of the header of an edit file."""
    try:
        is_file = path.is_file()
    except OSError as error:
        raise EditkitError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not is_file:
        if split_guard(path.name)[1] is not None:
            raise EditkitError(
                f"{path}: a guard leads away while a picture is drawn and changes no weight; expected an edit file here"
            )
        raise EditkitError(f"{path}: no such edit file; make one with `editkit erase ... --out {path}`")
    try:
        metadata = read_header(path).metadata
    except EditkitError as error:
        raise EditkitError(str(error).replace("a safetensors file", "an edit file", 1)) from error
    if key not in metadata:
        raise EditkitError(f"{path}: {_what_else(path)}, but not an edit: expected metadata {key!r}, found none")
    try:
        content = json.loads(metadata[key], parse_constant=_null)
    except ValueError as error:
        raise EditkitError(f"{path}: its {key} is not the JSON it should be ({error}); make the edit again") from error
    if not isinstance(content, dict):
        raise EditkitError(f"{path}: its {key} is not the JSON object it should be; make the edit again")
    return content
