"""An edit as one safetensors file: the factors in float32, the record as JSON metadata; and the gate, if it has one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from editkit.edits.edit import Edit, check_ungated
from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.model.checkpoints.projections import read_tensors
from editkit.model.formats import save_tensors
from editkit.variants.record import (
    DOWNS_KEY,
    FORMAT_VERSION,
    GATED_VERSION,
    RECORD_KEY,
    read_json_metadata,
    read_record,
    record_json,
)
from editkit.variants.tuned_file import is_tuned, load_tuned

GATE = ("centre", "white", "wanted")
EXACT = 1e-7
"""Relative error to which a map is truncated before it is written: that of float32."""


def save_edit(edit: Edit, path: Path | str, force: bool = False) -> None:
    """Write `edit` to `path`. A down factor `V` that several maps share is stored once.

    Args:
        edit: what `erase`, `edit`, `compose` or `gated` made.
        path: a `.safetensors` file; `docs/edit-file.md` says what is in it.
        force: replace an edit file that is there.

    Raises:
        EditkitError: `path` is there already, or cannot be written.
    """
    path = Path(path)
    check_free_for_edit(path, force)
    maps = _compact(edit)
    owners: dict[int, str] = {}
    for name, edit_map in maps.items():
        owners.setdefault(id(edit_map.V), name)
    tensors = {f"up.{name}": edit_map.U.float() for name, edit_map in maps.items()}
    tensors |= {f"down.{owners[id(edit_map.V)]}": edit_map.V.float() for edit_map in maps.values()}
    version = FORMAT_VERSION
    if edit.gate is not None:
        version = GATED_VERSION
        tensors |= {f"gate.{name}": getattr(edit.gate, name).float() for name in GATE}
    metadata = {
        RECORD_KEY: record_json({"format_version": version} | {**edit.record, "format_version": version}),
        DOWNS_KEY: json.dumps({name: owners[id(edit_map.V)] for name, edit_map in maps.items()}),
    }
    write_atomic(path, lambda part: save_tensors(tensors, part, metadata), force)


def check_free_for_edit(path: Path, force: bool = False) -> None:
    """As `check_free`; and what is replaced with `force` must be an edit file: never a checkpoint."""
    check_free(path, force)
    if path.exists():
        try:
            read_record(path)
        except EditkitError as error:
            raise EditkitError(
                f"{path} exists and is no edit file: --force replaces edit files alone; give another --out"
            ) from error


def load_edit(path: Path | str) -> Variant:
    """Read an edit file, with its gate if it has one, or what `editkit refine` made.

    Args:
        path: the file, or the folder of `refine` or `hide`.

    Raises:
        EditkitError: no such file, not a safetensors file, not an edit, or written by a newer editkit.
    """
    if is_tuned(Path(path)):
        return load_tuned(path)
    return _read(Path(path))


def load_linear(path: Path | str) -> Edit:
    """`load_edit`, where only a linear map will do.

    Raises:
        EditkitError: as `load_edit`, or it was refined by gradient steps, or is behind a gate.
    """
    path = Path(path)
    if is_tuned(path):
        raise EditkitError(f"{path}: was refined by gradient steps and is no linear map; expected an edit file")
    edit = _read(path)
    try:
        check_ungated(edit)
    except EditkitError as error:
        raise EditkitError(f"{path}: {error}") from error
    return edit


def _read(path: Path) -> Edit:
    record, owners = read_record(path), read_json_metadata(path, DOWNS_KEY)
    factors = {name: tensor.double() for name, tensor in read_tensors(path, lambda _: True).items()}
    maps = {}
    for name, owner in owners.items():
        up, down = factors.get(f"up.{name}"), factors.get(f"down.{owner}")
        if up is None or down is None or up.ndim != 2 or up.shape != down.shape[::-1]:
            raise EditkitError(f"{path}: its factors for {name} do not fit each other; make the edit again")
        maps[name] = EditMap(up, down)
    if not maps:
        raise EditkitError(f"{path}: an edit file without a map; make the edit again")
    return Edit(maps, record, _gate(path, record["gate"], factors) if "gate" in record else None)


def _gate(path: Path, said: dict[str, Any], tensors: dict[str, Tensor]) -> Gate:
    parts = [tensors[f"gate.{name}"] for name in GATE if f"gate.{name}" in tensors]
    d = parts[0].numel() if parts else 0
    if [part.shape for part in parts[:2]] != [(d,), (d, d)] or len(parts) != len(GATE) or parts[2].shape[1:] != (d,):
        raise EditkitError(f"{path}: the tensors of its gate do not fit each other; make it again with `editkit gate`")
    return Gate(*parts, tau=said["tau"], eps=said["eps"], n=said["n"])


def _compact(edit: Edit) -> dict[str, EditMap]:
    """Padding rows are nearly equal: a handful of directions carries the whole map. Maps that share their down factor
    stay as they are, so that it is stored once."""
    uses = Counter(id(edit_map.V) for edit_map in edit.maps.values())
    return {
        name: edit_map if uses[id(edit_map.V)] > 1 else edit_map.truncate(error=EXACT)[0]
        for name, edit_map in edit.maps.items()
    }
