"""All of a model that an edit does not change, beside the base: tensor by tensor, and the files that are no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from editkit.edits.variant import Variant
from editkit.files.header import WEIGHTS
from editkit.model.checkpoints.ldm_names import UNET_PREFIX
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.loadable import OPTIONAL
from editkit.model.checkpoints.source import INDEX
from editkit.model.checkpoints.stored import Place, Stored
from editkit.model.checkpoints.weight_files import OTHER_WEIGHTS, PICKLES
from editkit.model.encoder_weights import PREFIX
from editkit.model.formats.single_file import averaged
from editkit.variants.rounding import Close, Difference, edited_difference, farther, plain_difference

GONE = "expected the base's own numbers, found no such tensor"
OWN_NOTES = ("dtype", "torch_dtype", "transformers_version")
"""What a library notes in a configuration of how it was saved."""


@dataclass
class Whole:
    """What was found beside the projections.

    Attributes:
        compared: tensors.
        close: how near those that are edited are to what was expected.
        difference: the first tensor that is not the base's; None: there is none.
        unlike: files that are no weights and differ from the base's, or are in one of the two alone.
        passed_over: weights that nothing was compared with.
    """

    compared: int = 0
    close: Close = "bits"
    difference: Difference | None = None
    unlike: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def take(self, mine: Stored, place: Place, other: Stored, base: Place, edit: Variant, edited: str | None) -> bool:
        """Compare one tensor, which `edit` changes if it is called `edited` in diffusers; whether it is as expected."""
        found, before = mine.read(place), other.read(base)
        self.compared += 1
        if edited is None:
            self.difference = plain_difference(place.name, found, before)
        else:
            seen = edited_difference(edit, edited, found, before)
            if isinstance(seen, Difference):
                self.difference = seen
            else:
                self.close = farther(self.close, seen)
        return self.difference is None


def compare_whole(edit: Variant, changed: Mapping[str, Place], mine: Stored, base: Stored) -> Whole:
    """All tensors of `mine` beside those of `base`, which lies on the disk in the same way.

    Args:
        changed: diffusers' name → place in `mine` of the tensors that the edit may change.
    """
    if mine.source.is_single_file:
        return _compare_files(edit, changed, mine, base)
    return _compare_folders(edit, changed, mine, base)


def _compare_files(edit: Variant, changed: Mapping[str, Place], mine: Stored, base: Stored) -> Whole:
    whole, ours, theirs = Whole(), mine.source.path, base.source.path
    family = mine.source.family.name
    own = {place.name: name for name, place in changed.items()}
    own |= {averaged(ldm_name(name, family)): name for name in changed}
    held = {_bare(name): name for name in base.names(theirs)}
    for name in mine.names(ours):
        known = held.pop(_bare(name), None)
        if known is None:
            whole.difference = Difference(name, f"expected no such tensor, {base.source.name} has none")
            return whole
        edited = own.get(name)
        if not whole.take(mine, Place(ours, name), base, Place(theirs, known), edit, _if_changed(edit, edited)):
            whole.difference = whole.difference and replace(whole.difference, tensor=name)
            return whole
    if held:
        whole.difference = Difference(next(iter(held.values())), GONE)
    return whole


def _compare_folders(edit: Variant, changed: Mapping[str, Place], mine: Stored, base: Stored) -> Whole:
    whole = Whole()
    for component in sorted({*_with_weights(mine), *_with_weights(base)}):
        if component not in _with_weights(mine):
            if component in OPTIONAL:
                whole.unlike.append(component)
                continue
            whole.difference = Difference(component, "expected the base's weights, found no such component")
        elif component not in _with_weights(base):
            whole.difference = Difference(component, f"expected no such component, {base.source.name} has none")
        else:
            own = {_bare(place.name): name for name, place in changed.items() if place.path.parent.name == component}
            _compare_component(whole, edit, own, component, mine, base)
        if whole.difference is not None:
            return whole
    whole.unlike += _unlike(mine.source.path, base.source.path)
    whole.passed_over += _passed_over(mine)
    return whole


def _with_weights(stored: Stored) -> list[str]:
    path = stored.source.path
    return [name for name in stored.source.components if any(_weight_files(path / name))]


def _weight_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*")) if path.suffix in WEIGHTS)


def _compare_component(
    whole: Whole, edit: Variant, own: Mapping[str, str], component: str, mine: Stored, base: Stored
) -> None:  # fmt: skip
    """Every file of it, the variants (fp16) too, each with the base's file of that name where there is one.

    Args:
        own: bare name in a file → what an edit calls it, of the tensors that the edit may change.
    """
    usual = {_bare(name): place for name, place in base.weights(component).items()}
    for path in _weight_files(mine.source.path / component):
        twin = base.source.path / component / path.name
        same = {_bare(name): Place(twin, name) for name in base.names(twin)} if twin.is_file() else {}
        for name in mine.names(path):
            known = same.get(_bare(name)) or usual.get(_bare(name))
            if known is None:
                whole.difference = Difference(name, f"expected no such tensor, {base.source.name} has none")
                return
            edited = _if_changed(edit, own.get(_bare(name)))
            if not whole.take(mine, Place(path, name), base, known, edit, edited):
                return
    missing = {*usual} - {_bare(name) for name in mine.weights(component)}
    if missing:
        whole.difference = Difference(min(missing), GONE)


def _if_changed(edit: Variant, name: str | None) -> str | None:
    return name if name is not None and edit.changes(name) else None


def _bare(name: str) -> str:
    """Without a prefix that some files have and some lack."""
    return name.removeprefix(UNET_PREFIX).removeprefix(PREFIX)


def _passed_over(mine: Stored) -> list[str]:
    """Weights that no loader of safetensors takes, and those beside the components."""
    root = mine.source.path
    parts = _with_weights(mine)
    return [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.suffix in (*PICKLES, *OTHER_WEIGHTS)
        or (path.suffix in WEIGHTS and (path.parent.parent != root or path.parent.name not in parts))
    ]


def _unlike(mine: Path, base: Path) -> list[str]:
    """Settings, tokenizers and the like."""
    ours, theirs = ({*_others(folder)} for folder in (mine, base))
    return sorted(name for name in ours | theirs if _content(mine / name) != _content(base / name))


def _others(folder: Path) -> Iterator[str]:
    """Files of the components that are no weights, and the index."""
    yield INDEX
    for path in folder.glob("*/*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        weights = (*WEIGHTS, *PICKLES, *OTHER_WEIGHTS)
        if path.is_file() and not hidden and path.suffix not in weights and not path.name.endswith(".index.json"):
            yield path.relative_to(folder).as_posix()


def _content(path: Path) -> Any:
    """Of JSON what it says, without parts that are not there and what a library notes of itself."""
    content = path.read_bytes() if path.is_file() else None
    if content is None or path.suffix != ".json":
        return content
    try:
        said = json.loads(content)
    except ValueError:
        return content
    if not isinstance(said, dict):
        return said
    own = {key for key, value in said.items() if key.startswith("_") or key in OWN_NOTES or value == [None, None]}
    return {key: value for key, value in said.items() if key not in own}
