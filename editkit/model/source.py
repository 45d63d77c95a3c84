"""Where a model is: the bundled one by name, or a diffusers folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from editkit.errors import EditkitError

BUNDLED = "emoji"
ENVIRONMENT = "EDITKIT_MODEL"


@dataclass(frozen=True)
class Source:
    """A diffusers folder that was checked to be one. `name` is what the user typed."""

    name: str
    path: Path

    @property
    def is_bundled(self) -> bool:
        return self.name == BUNDLED

    def weights(self, component: str) -> list[Path]:
        """The safetensors files of a component: one, or the shards that its index names.

        Raises:
            EditkitError: there are none, or only pickles.
        """
        folder = self.path / component
        index = next(iter(sorted(folder.glob("*.safetensors.index*.json"))), None)
        if index is not None:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            return [folder / name for name in names]
        full = [path for path in sorted(folder.glob("*.safetensors")) if path.name.count(".") == 1]
        found = full or sorted(folder.glob("*.safetensors"))
        if found:
            return found[:1]
        pickles = [path.name for path in folder.glob("*") if path.suffix in (".bin", ".ckpt", ".pt")]
        if pickles:
            raise EditkitError(
                f"{folder}: expected .safetensors, found {pickles[0]}, a pickle, which can run code when loaded; "
                "convert it to safetensors"
            )
        raise EditkitError(f"{folder}: expected a .safetensors file, found none; is the model complete?")


def find(model: str | os.PathLike[str] | None = None) -> Source:
    """The model of that name or folder; without one, `$EDITKIT_MODEL`, else the bundled model."""
    name = os.fspath(model) if model is not None else os.environ.get(ENVIRONMENT) or BUNDLED
    if name == BUNDLED:
        return Source(name, Path(str(files("editkit.emoji") / "model")))
    path = Path(name).expanduser()
    if path.is_file():
        raise EditkitError(
            f"model {name}: expected a diffusers folder, this is a file; convert it with diffusers first"
        )
    if not path.is_dir():
        raise EditkitError(
            f"model {name}: no such folder, and no bundled model of that name; give a diffusers folder or {BUNDLED!r}"
        )
    if not (path / "model_index.json").is_file():
        raise EditkitError(f"model {name}: expected a diffusers folder, but it has no model_index.json; check the path")
    return Source(name, path)


def sha256(paths: list[Path]) -> str:
    """Hash of the files' contents, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
