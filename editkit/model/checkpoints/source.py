"""Where a model is: the bundled one by name, a diffusers folder, a single-file checkpoint, or a hub id."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from editkit.concepts.profile import DEFAULT, Profile, ProfileOrFile, load_profile
from editkit.concepts.profile_file import read_profile
from editkit.errors import EditkitError
from editkit.model.families.family import Family
from editkit.model.families.table import by_name, family_of

BUNDLED = "emoji"
BUNDLED_PROFILE = "editkit.emoji.profile:PROFILE"
ENVIRONMENT = "EDITKIT_MODEL"
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]
HUB_SPARE = ["*.fp16.*", "*.fp16-*", "*.non_ema*", "*/flax*", "*/openvino*"]


@dataclass(frozen=True)
class Source:
    """A diffusers folder or a single-file checkpoint that was checked to be one.

    Attributes:
        name: what the user typed.
        tokenizer: for a single file, a folder with its tokenizer when that is not CLIP's.
        brings: its profile, or where that is.
    """

    name: str
    path: Path
    tokenizer: Path | None = None
    brings: Profile | str = field(default=DEFAULT, compare=False, repr=False)

    @cached_property
    def profile(self) -> Profile:
        """What it brings along, read when it is first asked for."""
        return load_profile(self.brings)

    @property
    def is_single_file(self) -> bool:
        return self.path.is_file()

    @cached_property
    def family(self) -> Family:
        """Which of `editkit.model.families.table` it is."""
        if self.is_single_file:
            from editkit.model.checkpoints.single_file import read_family

            return by_name(read_family(self.path))
        pipeline = str(self.index.get("_class_name"))
        for component in ("unet", "transformer"):
            config = self.config(component)
            if config:
                return family_of(pipeline, config.get("cross_attention_dim"))
        raise EditkitError(f"model {self.name}: expected a unet or a transformer, found neither; is it complete?")

    @cached_property
    def index(self) -> dict[str, Any]:
        """`model_index.json`."""
        return _read_json(self.path / "model_index.json")

    def config(self, component: str) -> dict[str, Any]:
        """`config.json` of a component; empty where there is none."""
        path = self.path / component / "config.json"
        return _read_json(path) if path.is_file() else {}

    def weights(self, component: str) -> list[Path]:
        """The safetensors files of a component: one, or the shards that its index names; variants (fp16) last.

        Raises:
            EditkitError: there are none, or only pickles.
        """
        folder = self.path / component
        whole = [path for path in sorted(folder.glob("*.safetensors")) if "-of-" not in path.name]
        found = [path for path in whole if path.name.count(".") == 1]
        indexes = sorted(folder.glob("*.safetensors.index*.json"), key=lambda path: (path.name.count("."), path.name))
        plain = [path for path in indexes if path.name.endswith(".safetensors.index.json")]
        index = next(iter(plain if plain or whole else indexes), None)
        if index is not None and not found:
            names = sorted(set(_read_json(index).get("weight_map", {}).values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing or not names:
                raise EditkitError(f"{index}: expected the shards that it names, {missing or 'it names none'}")
            return [folder / name for name in names]
        if found or whole:
            return (found or whole)[:1]
        pickles = [path for path in folder.glob("*") if path.suffix in PICKLES]
        if pickles:
            raise EditkitError(_is_a_pickle(pickles[0]))
        raise EditkitError(f"{folder}: expected a .safetensors file, found none; is the model complete?")

    def variant(self, component: str) -> str | None:
        """The variant that `weights` chose: `fp16` for `model.fp16.safetensors`."""
        parts = self.weights(component)[0].name.split("-0")[0].removesuffix(".safetensors").split(".")
        return parts[1] if len(parts) > 1 else None


def find(
    model: str | os.PathLike[str] | Source | None = None,
    tokenizer: Path | None = None,
    profile: ProfileOrFile | None = None,
) -> Source:
    """The model of that name, folder, file or hub id; without one, `$EDITKIT_MODEL`, else the bundled model.

    Args:
        tokenizer: a single file holds none: CLIP's is used, or that in this folder.
        profile: a file as in `editkit.concepts.profile_file`, or a profile; what a file leaves out is as the model's
            own profile has it.

    Raises:
        EditkitError: there is no such model, it is a pickle, or a hub id that cannot be had; or the profile is faulty.
    """
    if isinstance(profile, Profile):
        return replace(_find(model, tokenizer), brings=profile)
    if profile is None:
        return _find(model, tokenizer)
    path = Path(profile).expanduser()
    read_profile(path)  # before a model is downloaded
    source = _find(model, tokenizer)
    return replace(source, brings=read_profile(path, source.profile))


def _find(model: str | os.PathLike[str] | Source | None, tokenizer: Path | None) -> Source:
    if isinstance(model, Source):
        return model
    name = os.fspath(model) if model is not None else os.environ.get(ENVIRONMENT) or BUNDLED
    if name == BUNDLED:
        return Source(name, Path(str(files("editkit.emoji") / "model")), brings=BUNDLED_PROFILE)
    path = Path(name).expanduser()
    try:
        path.exists()
    except OSError as error:
        raise EditkitError(f"model {name[:80]}: cannot be read ({error.strerror}); check the path") from error
    if path.suffix.lower() in PICKLES:
        raise EditkitError(_is_a_pickle(path))
    if path.is_file():
        return _checked_file(name, path, tokenizer)
    if tokenizer is not None:
        raise EditkitError("--tokenizer: a diffusers folder brings its own; the option is for a single-file checkpoint")
    if not path.is_dir():
        if HUB_ID.fullmatch(name):
            return Source(name, fetch(name))
        raise EditkitError(
            f"model {name}: no such folder or file, and no bundled model of that name; give a diffusers folder, "
            f"a .safetensors checkpoint, a hub id such as org/name, or {BUNDLED!r}"
        )
    if not (path / "model_index.json").is_file():
        raise EditkitError(f"model {name}: expected a diffusers folder, but it has no model_index.json; check the path")
    return Source(name, path)


def fetch(hub_id: str) -> Path:
    """The diffusers folder of a hub id in huggingface_hub's cache, downloaded when it is not there yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    wanted: dict[str, Any] = {"allow_patterns": HUB_FILES, "ignore_patterns": HUB_SPARE}
    try:
        folder = Path(snapshot_download(hub_id, local_files_only=HF_HUB_OFFLINE, **wanted))
    except Exception as error:  # the hub raises its own, httpx's and the system's errors
        remedy = "unset HF_HUB_OFFLINE to allow downloads" if HF_HUB_OFFLINE else "check the name and the connection"
        raise EditkitError(
            f"model {hub_id}: no such folder, and as a hub id it is not in the local cache and cannot be fetched "
            f"({type(error).__name__}); {remedy}, or give a folder"
        ) from error
    if not (folder / "model_index.json").is_file():
        raise EditkitError(f"model {hub_id}: expected a diffusers pipeline, but it has no model_index.json")
    return folder


def _checked_file(name: str, path: Path, tokenizer: Path | None) -> Source:
    if path.suffix.lower() != ".safetensors":
        raise EditkitError(f"model {name}: expected a .safetensors checkpoint or a folder, got {path.suffix or name!r}")
    source = Source(name, path, tokenizer)
    _ = source.family  # a LoRA or a VAE is refused before any work
    return source


def _is_a_pickle(path: Path) -> str:
    return (
        f"{path}: expected safetensors, this is a pickle, which can run code when loaded; convert it, for example with "
        "diffusers' save_pretrained(safe_serialization=True) on a machine that you can lose"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EditkitError(f"{path}: expected JSON, but it cannot be read ({error}); fetch the model again") from error
    if not isinstance(found, dict):
        raise EditkitError(f"{path}: expected a JSON object, found {type(found).__name__}; fetch the model again")
    return found
