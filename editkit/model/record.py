"""What an edit file says of itself, read from its header alone: no tensor, and torch is not even imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from editkit.errors import EditkitError

FORMAT_VERSION = 1
RECORD_KEY = "editkit"


def read_record(path: Path | str) -> dict[str, Any]:
    """The record of an edit file.

    Raises:
        EditkitError: no such file, not a safetensors file, not an edit, or written by a newer editkit.
    """
    path = Path(path)
    if not path.is_file():
        raise EditkitError(f"{path}: no such edit file; make one with `editkit erase ... --out {path}`")
    try:
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EditkitError(
            f"{path}: cannot be read as safetensors ({error}); is it truncated? make it again"
        ) from error
    if RECORD_KEY not in metadata:
        raise EditkitError(f"{path}: a safetensors file, but not an edit: expected metadata {RECORD_KEY!r}, found none")
    try:
        record = json.loads(metadata[RECORD_KEY])
        version = int(record.get("format_version", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise EditkitError(f"{path}: its record is not the JSON it should be ({error}); make the edit again") from error
    if version > FORMAT_VERSION:
        raise EditkitError(f"{path}: format version {version}, expected at most {FORMAT_VERSION}; update editkit")
    return record
