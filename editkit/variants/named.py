"""What is drawn, as users type it: `base`, an edit or a release, or `RELEASE+KEY`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from editkit.edits.guarded import Guarded, guarded_record
from editkit.edits.guards import led_from, parse_guard
from editkit.edits.key import Unlocked
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.erasure.words import check_known
from editkit.errors import EditkitError
from editkit.files.names import file_stem
from editkit.model.checkpoints.source import Source
from editkit.model.editable import EditableModel, open_model
from editkit.plugins import loadable
from editkit.variants.edit_file import load_edit, load_linear
from editkit.variants.fit import check_fit
from editkit.variants.guard_names import split_guard
from editkit.variants.key_file import read_key
from editkit.variants.record import file_sha256, read_record
from editkit.variants.tuned_file import is_tuned, load_tuned

BASE = "base"


def read_variants(source: Source, names: Sequence[str]) -> list[Variant | None]:
    """The variants by name, checked against the model.

    Args:
        names: `base` is the unedited model, the others are files and folders. `released+church.key.safetensors` is a
            release with its key, `released+random:7` one with a random key: any key is tried, a wrong one with a
            warning.
    """
    if all(name == BASE for name in names):
        return [None] * len(names)
    model = open_model(source)
    return [_guarded(name, model) for name in names]


def _guarded(name: str, model: EditableModel) -> Variant | None:
    inner, text = split_guard(name)
    variant = None if inner == BASE else _variant(inner, model)
    if text is None:
        return variant
    guard = parse_guard(text, loadable("guards"))
    check_known(model, led_from(guard))
    return Guarded(variant, guard, text)


def record_of(name: str) -> Mapping[str, Any]:
    """The record of a variant by name, of the unedited model none; with the concepts of its guard."""
    inner, text = split_guard(name)
    record = {} if inner == BASE else read_record(file_and_key(inner)[0])
    if text is None:
        return record
    return guarded_record(record, parse_guard(text, loadable("guards")), text)


def behind_guard(names: Sequence[str], guard: str | None) -> list[str]:
    """The variants by name, each edit with a guard; where there is no edit, the unedited model with and without it."""
    if guard is None:
        return list(names)
    parse_guard(guard, loadable("guards"))
    guarded = [f"{name}+{guard}" for name in names if name != BASE]
    return [name for name in names if name == BASE] + (guarded or [f"{BASE}+{guard}"])


def _variant(name: str, model: EditableModel) -> Variant:
    file, key = file_and_key(name)
    if key == "":
        raise EditkitError(f"{name}: expected a key file or `random` after the +, got nothing")
    if key is not None:
        return unlock(read_release(file, model), key, model, force=True)
    edit = load_edit(file)
    check_fit(edit, model)
    return edit


def file_and_key(name: str) -> tuple[str, str | None]:
    """`RELEASE+KEY` in two. Files may have a `+` in their names: the key begins after the first one that follows an
    existing file."""
    ends = [n for n, letter in enumerate(name) if letter == "+" and Path(name[:n]).exists()]
    return (name[: ends[0]], name[ends[0] + 1 :]) if ends and not Path(name).exists() else (name, None)


def variant_name(name: str) -> str:
    """`base`, or the file's name without its ending; a key's follows with a `+`."""
    name, guard = split_guard(name)
    if guard is not None:
        return f"{variant_name(name)}+{file_stem([guard])}"
    file, key = file_and_key(name)
    return Path(file).stem if key is None else f"{Path(file).stem}+{Path(key).stem.replace(':', '-')}"


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, numbered where it is taken."""
    return next(each for n in count(1) if (each := name if n == 1 else f"{name}-{n}") not in taken)


def variant_sha256(name: str) -> str | None:
    """Of the edit file, and of the key with it; None for the unedited model."""
    inner, guard = split_guard(name)
    if guard is not None:
        return sha256(f"{variant_sha256(inner)} {guard}".encode()).hexdigest()
    if name == BASE:
        return None
    file, key = file_and_key(name)
    if key is None:
        return file_sha256(file)
    whole = file_sha256(file) + (file_sha256(key) if Path(key).is_file() else key)
    return sha256(whole.encode()).hexdigest()


def behind_gate(names: Sequence[str], gate: str | None) -> list[str]:
    """The variants by name, each edit in place of which stands the file `gate`, which was made of it by `editkit gate`.

    Raises:
        EditkitError: `gate` is no gate, or was made of another edit.
    """
    if gate is None:
        return list(names)
    said = read_record(gate).get("gate")
    if said is None:
        raise EditkitError(f"--gate {gate}: is an edit without a gate; make one with `editkit gate {gate} --out FILE`")
    known = (said.get("edit_sha256"), file_sha256(gate))
    for name in names:
        if name != BASE and variant_sha256(name) not in known:
            raise EditkitError(
                f"--gate {gate}: was made of another edit than {name}; `editkit gate {name}` makes its own"
            )
    return [name if name == BASE else gate for name in names] if set(names) - {BASE} else [*names, gate]


def read_release(path: Path | str, model: EditableModel) -> Tuned:
    """A release, checked against the model that it was made from."""
    if not is_tuned(Path(path)):
        load_linear(path)  # or what else it is
        raise EditkitError(
            f"{path}: a release of `editkit hide` was expected, this is an edit; what it erased has no key"
        )
    released = load_tuned(path)
    check_fit(released, model)
    return released


def unlock(released: Tuned, key: str, model: EditableModel, force: bool = False) -> Unlocked:
    """`released` with the key in the file `key`, as a variant to draw with: `editkit.variants.key_file`."""
    return Unlocked.of(released, read_key(key, released, model, force))
