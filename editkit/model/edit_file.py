"""An edit as one safetensors file: the factors in float32, the record as JSON metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from editkit.edit.edit import Edit
from editkit.edit.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.model.atomic import write_atomic
from editkit.model.formats import save_tensors
from editkit.model.projections import read_tensors
from editkit.model.record import FORMAT_VERSION, RECORD_KEY, read_record

EXACT = 1e-7
"""Relative error to which a map is truncated before it is written: that of float32."""


def save_edit(edit: Edit, path: Path | str, force: bool = False) -> None:
    """Write `edit` to `path`. The down factor `V` is stored once for all maps that share it."""
    maps = _compact(edit)
    tensors = {f"up.{name}": one.U.float() for name, one in maps.items()}
    shared = len({id(one.V) for one in maps.values()}) == 1
    for name, one in maps.items():
        tensors["down.*" if shared else f"down.{name}"] = one.V.float()
    record = json.dumps({"format_version": FORMAT_VERSION, **edit.record}, ensure_ascii=False)
    write_atomic(Path(path), lambda part: save_tensors(tensors, part, {RECORD_KEY: record}), force)


def load_edit(path: Path | str) -> Edit:
    """Read an edit file.

    Raises:
        EditkitError: no such file, not a safetensors file, not an edit, or written by a newer editkit.
    """
    path = Path(path)
    record = read_record(path)
    tensors = read_tensors(path, lambda _: True)
    ups, downs = (
        {key.removeprefix(side): factor.double() for key, factor in tensors.items() if key.startswith(side)}
        for side in ("up.", "down.")
    )
    maps = {}
    for name, up in ups.items():
        down = downs.get(name, downs.get("*"))
        if down is None or up.ndim != 2 or up.shape != down.shape[::-1]:
            raise EditkitError(f"{path}: its factors for {name} do not fit each other; make the edit again")
        maps[name] = EditMap(up, down)
    if not maps:
        raise EditkitError(f"{path}: an edit file without a map; make the edit again")
    return Edit(maps, record)


def compose_files(paths: Sequence[Path], out: Path, scale: float = 1.0, force: bool = False) -> Edit:
    """Read edits, apply them one after another, go `scale` of the way, and write the result to `out`."""
    whole = reduce(lambda first, later: first.then(later), [load_edit(path) for path in paths])
    if scale != 1:
        whole = whole.scale(scale)
    save_edit(whole, out, force)
    return whole


def _compact(edit: Edit) -> dict[str, EditMap]:
    """Padding rows are nearly equal: a handful of directions carries the whole map. Maps that share their down factor
    stay as they are, so that it is stored once."""
    if len({id(one.V) for one in edit.maps.values()}) < len(edit.maps):
        return dict(edit.maps)
    return {name: one.truncate(error=EXACT)[0] for name, one in edit.maps.items()}
