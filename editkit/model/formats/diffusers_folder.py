"""`diffusers`: a whole pipeline folder in which only the shards with edited tensors are written anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from editkit.edits.edit import Edit
from editkit.edits.tuned import Tuned
from editkit.errors import EditkitError
from editkit.files.atomic_folder import write_folder_atomic
from editkit.model.checkpoints.single_file import open_tensors
from editkit.model.checkpoints.source import PICKLES
from editkit.model.formats.single_file import copy_with, read_header

WEIGHTS = ".safetensors"
OTHER_WEIGHTS = (".msgpack", ".onnx", ".onnx_data", ".h5", ".xml")
"""Weights for other frameworks: those of the edited component would still hold what was edited."""


def write(
    edit: Edit | Tuned,
    projections: Mapping[str, Tensor],
    source_folder: Path,
    component: str,
    out: Path,
    force: bool = False,
) -> tuple[str, ...]:
    """Write the pipeline of `source_folder` with `edit` applied to `component` to the new folder `out`.

    Every safetensors file of the component that holds one of the `projections` is written anew, the variants (fp16)
    too; order, dtypes and metadata stay. Other weights are hard links to those of the source where the disk allows it,
    and all else is copied byte for byte: configurations are edited by hand, and that must not reach the source.

    Left out, so that nobody loads what was to be edited away: pickles, weights of the component for other frameworks,
    whole checkpoints beside the pipeline, hidden files.

    Args:
        projections: their names matter. Each file's own values are edited.
        force: replace the pipeline at `out`, if there is one.

    Returns:
        The files left out, relative to the source.

    Raises:
        EditkitError: the source lacks an edited projection, or keeps a component as a pickle alone; `out` exists and
            `force` is not given, or cannot be written. Nothing is left then.
    """
    source = source_folder.resolve()
    _check_apart(source, out)
    carried, left_out = _sorted_out(source, component)
    edited = {path: names for path in carried if (names := _held(source / path, component, projections, edit, source))}
    _check_complete(edit, projections, edited, source_folder / component)

    def fill(part: Path) -> None:
        for path in carried:
            target = part / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path in edited:
                _rewrite(edit, edited[path], source / path, target)
            else:
                _carry(source / path, target)

    write_folder_atomic(out, fill, force)
    return tuple(str(path) for path in left_out)


def _check_apart(source: Path, out: Path) -> None:
    target = out.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise EditkitError(f"{out}: lies in the model's own folder or around it ({source}); give another --out")


def _sorted_out(source: Path, component: str) -> tuple[list[Path], list[Path]]:
    """The files to carry over and those to leave out, relative to `source`."""
    carried: list[Path] = []
    left_out: list[Path] = []
    for path in _files(source):
        whole_checkpoint = len(path.parts) == 1 and path.suffix == WEIGHTS
        foreign = path.parts[0] == component and path.suffix in OTHER_WEIGHTS
        (left_out if path.suffix in PICKLES or whole_checkpoint or foreign else carried).append(path)
    with_weights = {path.parent for path in carried if path.suffix == WEIGHTS}
    for path in left_out:
        if path.suffix in PICKLES and len(path.parts) > 1 and path.parent not in with_weights:
            raise EditkitError(
                f"{source / path}: a pickle, which can run code when loaded, and there is no {WEIGHTS} file beside it; "
                "convert it to safetensors"
            )
    return carried, left_out


def _files(source: Path) -> Iterator[Path]:
    """Files below `source`, relative to it. Links are followed: the hub's cache consists of them."""
    for root, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name).relative_to(source)


def _held(path: Path, component: str, projections: Mapping[str, Tensor], edit: Edit | Tuned, source: Path) -> list[str]:
    """The edited projections that this file holds."""
    if path.parent != source / component or path.suffix != WEIGHTS:
        return []
    return [name for name in read_header(path).tensors if name in projections and edit.changes(name)]


def _check_complete(
    edit: Edit | Tuned, projections: Mapping[str, Tensor], edited: Mapping[Path, list[str]], folder: Path
) -> None:
    found = {name for names in edited.values() for name in names}
    missing = [name for name in projections if edit.changes(name) and name not in found]
    if missing or not found:
        name = missing[0] if missing else "tensor that the edit changes"
        raise EditkitError(f"{folder}: no {name} in its safetensors files; is it the model that was read?")


def _rewrite(edit: Edit | Tuned, names: list[str], source: Path, target: Path) -> None:
    with open_tensors(source) as opened:
        own = {name: opened.get_tensor(name) for name in names}
    copy_with(source, target, edit.weights(own))


def _carry(source: Path, target: Path) -> None:
    real = source.resolve()
    if source.suffix == WEIGHTS:
        try:
            os.link(real, target)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(real, target)
