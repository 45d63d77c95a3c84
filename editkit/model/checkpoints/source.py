"""Where a model is: the bundled one by name, a diffusers folder, a single-file checkpoint, or a hub id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.concepts.profile import DEFAULT, Profile, ProfileOrFile, load_profile
from editkit.concepts.profile_file import read_profile
from editkit.errors import EditkitError
from editkit.files.header import WEIGHTS, other_content
from editkit.model.checkpoints.hub import INDEX, fetch
from editkit.model.checkpoints.weight_files import OTHER_WEIGHTS, PICKLES, WeightFiles, choose
from editkit.model.families.family import Family
from editkit.model.families.table import by_name, family_of

if TYPE_CHECKING:
    from torch import Tensor

    from editkit.model.checkpoints.ldm_config import Stated

BUNDLED = "emoji"
BUNDLED_PROFILE = "editkit.emoji.profile:PROFILE"
ENVIRONMENT = "EDITKIT_MODEL"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """A diffusers folder or a single-file checkpoint that was checked to be one.

    Attributes:
        name: what the user typed.
        tokenizer: for a single file, a folder with its tokenizer when that is not CLIP's.
        brings: its profile, or where that is.
        learned: tokens that its CLIP text encoders know beside their own → the vectors of each encoder.
    """

    name: str
    path: Path
    tokenizer: Path | None = None
    brings: Profile | str = field(default=DEFAULT, compare=False, repr=False)
    learned: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict, compare=False, repr=False)

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
                return family_of(pipeline, config, {name: kind for name, (_, kind) in self.components.items()})
        for component in ("unet", "transformer"):
            if component in self.components:
                raise EditkitError(f"{self.path / component}: expected a config.json in it, found none; fetch it")
        raise EditkitError(
            f"model {self.name}: expected a unet or a transformer, but its {INDEX} names neither; give a whole pipeline"
        )

    @cached_property
    def pipeline_class(self) -> str:
        """The class of diffusers that draws it from a prompt alone; a folder may state one that starts from a picture,
        with the same network."""
        usual = self.family.pipelines[0]
        if self.is_single_file or self.family.component == "unet":
            return usual
        plain = re.sub("Img2Img|Text2Img|Inpaint|Kontext", "", str(self.index.get("_class_name")))
        return plain if plain in self.family.pipelines else usual

    @cached_property
    def stated(self) -> Stated:
        """What a single file states of itself."""
        from editkit.model.checkpoints.ldm_config import Stated

        family = self.family
        return Stated(self.path, family.name, family.pipelines[0], self.profile.prediction)

    @cached_property
    def index(self) -> dict[str, Any]:
        """`model_index.json`, or what a single file would have there."""
        return self.stated.index if self.is_single_file else _read_json(self.path / INDEX)

    def config(self, component: str) -> dict[str, Any]:
        """`config.json` of a component, or what a single file would have there; empty where there is none."""
        if self.is_single_file:
            return self.stated.configs.get(component, {})
        path = self.path / component / "config.json"
        return _read_json(path) if path.is_file() else {}

    @property
    def scheduler(self) -> dict[str, Any]:
        """The configuration of its scheduler; empty where there is none."""
        path = self.path / "scheduler" / "scheduler_config.json"
        return _read_json(path) if path.is_file() else {}

    @cached_property
    def components(self) -> dict[str, tuple[str, str]]:
        """Component → library and class, of those that `model_index.json` says are there."""
        entries = {name: entry for name, entry in self.index.items() if isinstance(entry, list) and len(entry) == 2}
        return {name: (str(library), str(kind)) for name, (library, kind) in entries.items() if kind is not None}

    def weights(self, component: str) -> list[Path]:
        """The safetensors files of a component: one, or the shards that its index names; variants (fp16) last.

        Raises:
            EditkitError: there are none, or only pickles, or shards are missing.
        """
        return [self.path / component / name for name in self._chosen(component).names]

    def variant(self, component: str) -> str | None:
        """The variant that `weights` chose: `fp16` for `model.fp16.safetensors`."""
        return self._chosen(component).variant

    def _chosen(self, component: str) -> WeightFiles:
        folder = self.path / component
        names = {path.name for path in folder.glob("*")}
        chosen = choose(names, lambda index: _shards(folder / index))
        if chosen is None:
            raise EditkitError(self._why_absent(component, names))
        missing = sorted(set(chosen.names) - names)
        if missing or not chosen.names:
            raise EditkitError(
                f"{folder / str(chosen.index)}: expected the shards that it names, {missing or 'it names none'}; "
                "fetch them again"
            )
        return chosen

    def check_stated(self, component: str) -> None:
        """Refuse a component that `model_index.json` says the model does not have.

        Raises:
            EditkitError: with what the model is, and what to do.
        """
        if component in self.components or not (self.path / INDEX).is_file():
            return
        without = f"model {self.name}: has no {component}, as its model_index.json says"
        if component in ("text_encoder", "tokenizer") and {"text_encoder_2", "unet"} <= self.components.keys():
            raise EditkitError(f"{without}: an SDXL refiner, expected a base model; edit the base instead")
        raise EditkitError(
            f"{without}: it was saved without it, and this needs it; load the pipeline with its {component} and save "
            "it anew, or give the folder of the whole model"
        )

    def _why_absent(self, component: str, names: Collection[str]) -> str:
        """Why there are no weights in the folder of a component."""
        folder = self.path / component
        pickles = sorted(name for name in names if Path(name).suffix in PICKLES)
        if pickles:
            return _is_a_pickle(folder / pickles[0])
        self.check_stated(component)
        others = sorted(name for name in names if Path(name).suffix in OTHER_WEIGHTS)
        if others:
            return f"{folder}: expected a .safetensors file, found only {others[0]}, for another framework; convert it"
        inside = ", ".join(sorted(names)) or "nothing"
        what = f"only {inside}" if folder.is_dir() else "no folder of that name"
        return f"{folder}: expected a .safetensors file, found {what}; the weights are missing, fetch them"


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
        return _brought(_find(model, tokenizer), profile)
    if profile is None:
        return _find(model, tokenizer)
    path = Path(profile).expanduser()
    read_profile(path)  # before a model is downloaded
    source = _find(model, tokenizer)
    return _brought(source, read_profile(path, source.profile))


def _brought(source: Source, profile: Profile) -> Source:
    """With that profile.

    Raises:
        EditkitError: it says what a folder says itself.
    """
    if profile.prediction is not None and not source.is_single_file:
        raise EditkitError(
            f"profile {profile.name}, prediction: is for a single file, and model {source.name} is a folder: its "
            "scheduler_config.json says what it predicts; leave the key out"
        )
    return replace(source, brings=profile)


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a model of its own, a diffusers folder or a single-file checkpoint, and so no edit."""
    from editkit.model.checkpoints.single_file import is_checkpoint

    return (Path(path) / INDEX).is_file() or is_checkpoint(Path(path))


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
    if not (path / INDEX).is_file():
        raise EditkitError(f"model {name}: expected a diffusers folder, but it has no model_index.json; check the path")
    return Source(name, path)


def _checked_file(name: str, path: Path, tokenizer: Path | None) -> Source:
    what = other_content(path)
    if what is not None:
        raise EditkitError(f"model {name}: expected a safetensors checkpoint or a folder, but {what}")
    if path.suffix.lower() not in WEIGHTS:
        raise EditkitError(f"model {name}: expected a .safetensors checkpoint or a folder, got {path.suffix or name!r}")
    source = Source(name, path, tokenizer)
    _ = source.family  # a LoRA or a VAE is refused before any work
    return source


def _is_a_pickle(path: Path) -> str:
    return (
        f"{path}: expected safetensors, this is a pickle, which can run code when loaded; convert it, for example with "
        "diffusers' save_pretrained(safe_serialization=True) on a machine that you can lose"
    )


def _shards(index: Path) -> list[str]:
    return sorted(set(_read_json(index).get("weight_map", {}).values()))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EditkitError: it is none; the message says what is there instead.
    """
    try:
        what = other_content(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EditkitError(
            f"{path}: expected JSON, but it cannot be read ({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        why = what if what and "JSON" not in what else f"it is no JSON ({error}); repair it, or take another copy"
        raise EditkitError(f"{path}: expected JSON, but {why}") from error
    if not isinstance(content, dict):
        raise EditkitError(f"{path}: expected a JSON object, found {type(content).__name__}; take another copy")
    return content
