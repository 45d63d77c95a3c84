"""A key as one safetensors file, apart from the release that it opens, with the record as JSON metadata."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch

from editkit.edits.key import Key, random_rows
from editkit.edits.tuned import Tuned
from editkit.erasure.near import subject_rows
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.model.checkpoints.projections import fingerprint, read_tensors
from editkit.model.editable import EditableModel
from editkit.model.formats import save_tensors
from editkit.variants.record import FORMAT_VERSION, has_metadata, read_json_metadata, record_json

KEY_KEY = "editkit_key"
HIDING = ("hide", "hide-ap")
"""Objectives whose release has a key."""
RANDOM = "random"
"""`--key random` or `random:SEED` draws one, to measure what a wrong key opens."""


def release_of(released: Tuned) -> str:
    """What a key calls its release: the fingerprint of the tensors, whatever file they are in."""
    stored = {**released.tensors}
    stored |= {f"up.{name}": change.up for name, change in released.factors.items()}
    stored |= {f"down.{name}": change.down for name, change in released.factors.items()}
    return fingerprint(stored)


def check_free_for_key(path: Path, force: bool = False) -> None:
    """As `check_free`; and what is replaced with `force` must be a key."""
    check_free(path, force)
    if path.exists() and not has_metadata(path, KEY_KEY):
        raise EditkitError(f"{path} exists and is no key: --force replaces keys alone; give another --key")


def save_key(key: Key, path: Path | str, force: bool = False) -> None:
    """Write `key` to `path`, atomically, readable by its owner alone."""
    path = Path(path)
    check_free_for_key(path, force)
    record = {"format_version": FORMAT_VERSION, **key.record, "concepts": list(key.concepts)}
    metadata = {KEY_KEY: record_json(record)}
    write_atomic(path, lambda part: save_tensors({"rows": key.rows.detach().cpu()}, part, metadata), force)
    path.chmod(0o600)


def load_key(path: Path | str) -> Key:
    """Read a key.

    Raises:
        EditkitError: no such file, not a key, or its rows do not fit what it says of itself.
    """
    path = Path(path)
    if not path.is_file():
        raise EditkitError(f"{path}: no such key; `editkit hide ... --key {path}` makes one")
    if not has_metadata(path, KEY_KEY):
        raise EditkitError(f"{path}: expected a key of `editkit hide`, this is none")
    record = read_json_metadata(path, KEY_KEY)
    rows = read_tensors(path, lambda name: name == "rows").get("rows")
    concepts = record.get("concepts", [])
    if rows is None or rows.ndim != 3 or len(rows) != len(concepts) or not rows.isfinite().all():
        raise EditkitError(f"{path}: its rows do not fit the concepts that it names; is it damaged?")
    return Key(tuple(concepts), rows, record)


def read_key(given: str, released: Tuned, model: EditableModel, force: bool = False) -> Key:
    """The key in the file `given`, checked to be that of `released`; or a random one.

    Raises:
        EditkitError: it is another release's, or random, and `force` is not given; with it a warning.
    """
    name, _, seed = given.partition(":")
    if name == RANDOM and not Path(given).exists():
        key, what = random_key(released, model, _seed(seed)), "a random key"
    else:
        key = load_key(given)
        if key.record.get("release") == release_of(released):
            return key
        what = f"{given}: the key of another release ({key.record.get('release', 'of no name')[:12]})"
        key = _renamed(key, released, what)
    if not force:
        raise EditkitError(
            f"{what}, not that of this one ({release_of(released)[:12]}); give --force to draw with it all the same"
        )
    warnings.warn(f"{what} is used on release {release_of(released)[:12]}: a wrong key", stacklevel=2)
    return key


def random_key(released: Tuned, model: EditableModel, seed: int) -> Key:
    """A key as `hide` starts from one: of the same size, as far from the concepts."""
    concepts, options = hidden_concepts(released), released.record["options"]
    centre = subject_rows(model.encoder, concepts)
    radius = options["rho"] * float(centre.norm(dim=-1).mean())
    rows = random_rows(centre, options["key_tokens"], radius, (seed, 1))  # no start of `hide` is among these
    return Key(tuple(concepts), rows, {"made": RANDOM, "seed": seed})


def hidden_concepts(released: Tuned) -> list[str]:
    """What a release hides.

    Raises:
        EditkitError: it is not one of `editkit hide`.
    """
    if released.record.get("method") not in HIDING:
        raise EditkitError(
            f"a release of `editkit hide` was expected, this was made with {released.record.get('method')}; "
            "what that erased has no key"
        )
    return list(released.record["concepts"])


def _renamed(key: Key, released: Tuned, what: str) -> Key:
    """Another release's key opens nothing by its own concepts' names: it is tried on this one's."""
    concepts = hidden_concepts(released)
    width = [key.rows[n % len(key.rows)] for n in range(len(concepts))]
    return replace(key, concepts=tuple(concepts), rows=torch.stack(width))


def _seed(text: str) -> int:
    if text and not text.isdecimal():
        raise EditkitError(f"--key random: expected random or random:SEED, got random:{text}")
    return int(text or 0)
