"""`diffusers`: a whole pipeline folder in which only the shards with edited tensors are written anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic_folder import check_free_folder, write_folder_atomic
from editkit.files.header import WEIGHTS, read_header
from editkit.model.checkpoints.loadable import unloadable
from editkit.model.checkpoints.projections import read_tensors
from editkit.model.checkpoints.source import INDEX, Source
from editkit.model.checkpoints.weight_files import OTHER_WEIGHTS, PICKLES
from editkit.model.editable import EditableModel
from editkit.model.encoder_weights import encoder_weight, encoders_of
from editkit.model.formats.format import Format, Held, Stored, WriteReport
from editkit.model.formats.rewrite import rewrite


@dataclass(frozen=True)
class DiffusersFolder(Format):
    """A whole pipeline folder, for `from_pretrained`."""

    reads: ClassVar[Stored | None] = "folder"
    holds: ClassVar[tuple[Held, ...]] = ("denoiser", "text encoders")

    def check_free(self, out: Path, force: bool) -> None:
        check_free_folder(out, force)

    def export(
        self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, out: Path, force: bool
    ) -> WriteReport:
        source = model.source
        components = encoders_of(edit.names) or [source.family.component]
        written = write(edit, weights, source.path, components, out, force)
        return replace(written, variant=_variant(source))


def write(
    edit: Variant,
    projections: Mapping[str, Tensor],
    source_folder: Path,
    components: Sequence[str],
    out: Path,
    force: bool = False,
) -> WriteReport:
    """Write the pipeline of `source_folder` with `edit` applied to `components` to the new folder `out`.

    Every safetensors file of these that holds one of the `projections` is written anew, the variants (fp16)
    too; order, dtypes and metadata stay. Other weights are hard links to those of the source where the disk allows it,
    and all else is copied byte for byte: configurations are edited by hand, and that must not reach the source.

    Left out, so that nobody loads what was to be edited away: pickles, weights of the components for other frameworks,
    whole checkpoints beside the pipeline, hidden files. A part that a pipeline can do without, such as a safety checker
    that is a pickle, is left out whole, and the new index says null.

    Args:
        projections: their names matter. Each file's own values are edited.
        force: replace the pipeline at `out`, if there is one.

    Raises:
        EditkitError: the source lacks an edited projection, or weights of a component that stock diffusers could load;
            `out` exists and `force` is not given, or cannot be written. Nothing is left then.
    """
    source = source_folder.resolve()
    _check_apart(source, out)
    absent = unloadable(Source(str(source_folder), source))
    carried, left_out = _sorted_out(source, components, absent)
    held = {path: _held(source / path, components, projections, edit, source) for path in carried}
    edited = {path: names for path, names in held.items() if names}
    _check_complete(edit, projections, edited, source_folder / components[0])
    lost: list[float] = [0.0]

    def fill(part: Path) -> None:
        for path in carried:
            target = part / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path in edited:
                lost.append(_rewrite(edit, edited[path], source / path, target))
            elif absent and str(path) == INDEX:
                target.write_text(_with_nulls(source / path, absent), encoding="utf-8")
            else:
                _carry(source / path, target)

    write_folder_atomic(out, fill, force)
    gone = [f"{name} (null in the new {INDEX}: {why})" for name, why in absent.items()]
    return WriteReport.rounded(max(lost), (*map(str, left_out), *gone))


def _variant(source: Source) -> str | None:
    with_weights = [name for name in source.components if list((source.path / name).glob("*.safetensors"))]
    return next(filter(None, map(source.variant, with_weights)), None)


def _check_apart(source: Path, out: Path) -> None:
    target = out.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise EditkitError(f"{out}: lies in the model's own folder or around it ({source}); give another --out")


def _sorted_out(source: Path, components: Collection[str], absent: Collection[str]) -> tuple[list[Path], list[Path]]:
    """The files to carry over and those to leave out, relative to `source`, but for `absent` components."""
    carried: list[Path] = []
    left_out: list[Path] = []
    for path in _files(source):
        whole_checkpoint = len(path.parts) == 1 and path.suffix in WEIGHTS
        foreign = path.parts[0] in components and path.suffix in OTHER_WEIGHTS
        if path.parts[0] not in absent:
            (left_out if path.suffix in PICKLES or whole_checkpoint or foreign else carried).append(path)
    return carried, left_out


def _with_nulls(index: Path, absent: Collection[str]) -> str:
    """`model_index.json` that says that these components are not there."""
    entries = json.loads(index.read_text(encoding="utf-8"))
    return json.dumps(entries | {name: [None, None] for name in absent}, indent=2) + "\n"


def _files(source: Path) -> Iterator[Path]:
    """Files below `source`, relative to it. Links are followed: the hub's cache consists of them."""
    for root, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name).relative_to(source)


def _held(
    path: Path, components: Collection[str], projections: Mapping[str, Tensor], edit: Variant, source: Path
) -> dict[str, str]:  # fmt: skip
    """The edited tensors that this file holds: what the edit calls them → their names in it."""
    component = path.parent.name
    if path.parent.parent != source or component not in components or path.suffix not in WEIGHTS:
        return {}
    is_encoder = component in encoders_of(edit.names)
    names = {encoder_weight(component, own) if is_encoder else own: own for own in read_header(path).tensors}
    return {name: own for name, own in names.items() if name in projections and edit.changes(name)}


def _check_complete(
    edit: Variant, projections: Mapping[str, Tensor], edited: Mapping[Path, Mapping[str, str]], folder: Path
) -> None:
    present = {name for names in edited.values() for name in names}
    missing = [name for name in projections if edit.changes(name) and name not in present]
    if missing or not present:
        name = missing[0] if missing else "tensor that the edit changes"
        raise EditkitError(f"{folder}: no {name} in its safetensors files; is it the model that was read?")


def _rewrite(edit: Variant, names: Mapping[str, str], source: Path, target: Path) -> float:
    own = read_tensors(source, {*names.values()}.__contains__)
    edited = edit.weights({name: own[stored] for name, stored in names.items()})
    return rewrite(source, target, own, {names[name]: value for name, value in edited.items()})


def _carry(source: Path, target: Path) -> None:
    real = source.resolve()
    if source.suffix in WEIGHTS:
        try:
            os.link(real, target)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(real, target)
