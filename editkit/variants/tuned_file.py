"""What the gradient stage made, as one safetensors file: tensors or LoRA factors, and the record as JSON metadata."""

from __future__ import annotations

import json
from pathlib import Path

from editkit.edits.low_rank import LowRank
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic
from editkit.model.checkpoints.projections import read_tensors
from editkit.model.formats import save_tensors
from editkit.variants.folder import TUNED_NAME, edit_file
from editkit.variants.record import (
    FORMAT_VERSION,
    RECORD_KEY,
    TUNED_KEY,
    has_metadata,
    read_json_metadata,
    read_record,
    record_json,
)


def save_tuned(tuned: Tuned, path: Path | str, force: bool = False) -> None:
    """Write `tuned` to the file `path`, atomically."""
    tensors = {f"tensor.{name}": tensor for name, tensor in tuned.tensors.items()}
    tensors |= {f"up.{name}": change.up for name, change in tuned.factors.items()}
    tensors |= {f"down.{name}": change.down for name, change in tuned.factors.items()}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    metadata = {
        RECORD_KEY: record_json({"format_version": FORMAT_VERSION, **tuned.record}),
        TUNED_KEY: json.dumps(dict(tuned.base)),
    }
    write_atomic(Path(path), lambda part: save_tensors(tensors, part, metadata), force)


def is_tuned(path: Path) -> bool:
    """Whether `path` is a file that `save_tuned` wrote, or a folder of `editkit refine`."""
    return (path / TUNED_NAME).is_file() or has_metadata(path, TUNED_KEY)


def load_tuned(path: Path | str) -> Tuned:
    """Read a file that `save_tuned` wrote, or the folder of `editkit refine` that holds one.

    Raises:
        EditkitError: no such file, not one of these, its tensors do not fit what it says of itself.
    """
    path = edit_file(Path(path))
    record, base = read_record(path), read_json_metadata(path, TUNED_KEY)
    stored = read_tensors(path, lambda _: True)
    tensors = {name: stored[f"tensor.{name}"] for name in base if f"tensor.{name}" in stored}
    factors = {}
    for name in base:
        up, down = stored.get(f"up.{name}"), stored.get(f"down.{name}")
        if up is None or down is None:
            continue
        if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
            raise EditkitError(f"{path}: its factors for {name} do not fit each other; refine again")
        factors[name] = LowRank(up, down)
    missing = [name for name in base if name not in tensors and name not in factors]
    if missing or not base:
        raise EditkitError(f"{path}: expected a tensor {missing[0] if missing else 'at all'}, found none; refine again")
    return Tuned(tensors, factors, base, record)
