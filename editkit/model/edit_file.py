"""An edit as one safetensors file: the factors in float32, the record as JSON metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from editkit.edit.edit import Edit
from editkit.edit.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.model.atomic import write_atomic

FORMAT_VERSION = 1
RECORD_KEY = "editkit"
EXACT = 1e-7
"""Relative error to which a map is truncated before it is written: that of float32."""


def save_edit(edit: Edit, path: Path | str, force: bool = False) -> None:
    """Write `edit` to `path`. The down factor `V` is stored once for all maps that share it."""
    maps = _compact(edit)
    tensors = {f"up.{name}": one.U.float().contiguous() for name, one in maps.items()}
    shared = len({id(one.V) for one in maps.values()}) == 1
    for name, one in maps.items():
        tensors["down.*" if shared else f"down.{name}"] = one.V.float().contiguous()
    record = json.dumps({"format_version": FORMAT_VERSION, **edit.record}, ensure_ascii=False)
    write_atomic(Path(path), lambda part: save_file(tensors, part, {RECORD_KEY: record}), force)


def load_edit(path: Path | str) -> Edit:
    """Read an edit file.

    Raises:
        EditkitError: no such file, not a safetensors file, not an edit, or written by a newer editkit.
    """
    record, tensors = _read(Path(path), with_tensors=True)
    maps = {}
    for key, up in tensors.items():
        group, name = key.split(".", 1)
        if group == "up":
            down = tensors.get(f"down.{name}", tensors.get("down.*"))
            if down is None or up.shape[1] != down.shape[0]:
                raise EditkitError(f"{path}: its factors for {name} do not fit each other; make the edit again")
            maps[name] = EditMap(up.double(), down.double())
    if not maps:
        raise EditkitError(f"{path}: an edit file without a map; make the edit again")
    return Edit(maps, record)


def read_record(path: Path | str) -> dict[str, Any]:
    """The record of an edit file, without its tensors."""
    return _read(Path(path), with_tensors=False)[0]


def _compact(edit: Edit) -> dict[str, EditMap]:
    """Padding rows are nearly equal: a handful of directions carries the whole map."""
    if edit.is_global:
        return {name: one.truncate(error=EXACT)[0] for name, one in edit.maps.items()}
    return dict(edit.maps)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise EditkitError(f"{path}: no such edit file; make one with `editkit erase ... --out {path}`")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.offset_keys()} if with_tensors else {}
    except (SafetensorError, OSError) as error:
        raise EditkitError(
            f"{path}: cannot be read as safetensors ({error}); is it truncated? make it again"
        ) from error
    if RECORD_KEY not in metadata:
        raise EditkitError(f"{path}: a safetensors file, but not an edit: expected metadata {RECORD_KEY!r}, found none")
    record = json.loads(metadata[RECORD_KEY])
    if record.get("format_version", 0) > FORMAT_VERSION:
        raise EditkitError(
            f"{path}: format version {record['format_version']}, expected at most {FORMAT_VERSION}; update editkit"
        )
    return record, tensors
