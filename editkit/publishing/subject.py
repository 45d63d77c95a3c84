"""What a card is about: an edit file, and the base model that it is for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.files.header import WEIGHTS, read_header
from editkit.model.checkpoints.source import BUNDLED, HUB_ID, Source, find, is_model
from editkit.model.editable import ModelLike, open_model
from editkit.variants.edit_file import load_edit
from editkit.variants.fit import check_fit
from editkit.variants.folder import edit_file
from editkit.variants.record import TUNED_KEY, file_sha256, read_record

LICENCE_KEYS = ("license", "license_name", "license_link")
MODELSPEC = "modelspec.license"
"""Metadata of single files, https://github.com/Stability-AI/ModelSpec."""


@dataclass(frozen=True)
class Licence:
    """What the base says of its licence.

    Attributes:
        stated: `license`, `license_name` and `license_link` as the Hub's metadata has them; empty: nothing was found.
        place: where that was found.
        files: texts of licences that lie beside.
    """

    stated: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """An edit file as far as a card tells of it.

    Attributes:
        name: of the file, or of the folder of `refine`.
        file: the file itself.
        sha256: of the file.
        record: what the file says of itself.
        is_tuned: whether it was trained by gradient steps.
        is_low_rank: whether other programs can have it as a LoRA.
        base: the base model, as users type it.
        is_single_file: whether that is one file.
        licence: of the base.
    """

    name: str
    file: Path
    sha256: str
    record: Mapping[str, Any]
    is_tuned: bool
    is_low_rank: bool
    base: str
    is_single_file: bool
    licence: Licence

    @property
    def hub_id(self) -> str | None:
        """The base on the Hub, if it is there."""
        return self.base if HUB_ID.fullmatch(self.base) and not Path(self.base).exists() else None

    @property
    def concepts(self) -> list[str]:
        return list(self.record.get("concepts", []))


def read_subject(edit: str | os.PathLike[str], model: ModelLike = None) -> Subject:
    """The edit in a file or folder.

    Args:
        model: the base; without it, what the record names is looked at where it is on this machine.

    Raises:
        EditkitError: it is no edit, or was made for other weights than those of `model`.
    """
    given = Path(edit)
    file = edit_file(given)
    record, header = read_record(file), read_header(file)
    source = _named(record) if model is None else _checked(given, record, model)
    base = str(record.get("model", "")) if model is None or source is None else source.name
    is_tuned = TUNED_KEY in header.metadata
    return Subject(
        name=given.name if given.is_dir() else file.stem,
        file=file,
        sha256=file_sha256(file),
        record=record,
        is_tuned=is_tuned,
        is_low_rank=not is_tuned or any(name.startswith("up.") for name in header.tensors),
        base=base,
        is_single_file=base.endswith(WEIGHTS) if source is None else source.is_single_file,
        licence=Licence() if source is None else licence_of(source),
    )


def _named(record: Mapping[str, Any]) -> Source | None:
    name = str(record.get("model", ""))
    return find(name) if name == BUNDLED or (name and is_model(Path(name).expanduser())) else None


def _checked(edit: Path, record: Mapping[str, Any], model: ModelLike) -> Source:
    opened = open_model(model)
    check_fit(load_edit(edit), opened)
    recorded = record.get("projections_sha256")
    if recorded is not None and recorded != opened.projections_sha256:
        raise EditkitError(
            f"--model {opened.source.name}: has other projections than those that {edit} was made for; give the model "
            "that it was made for"
        )
    return opened.source


def licence_of(source: Source) -> Licence:
    """What a model's own folder or file says of its licence: the metadata of its README, or of the single file."""
    if source.is_single_file:
        stated = read_header(source.path).metadata.get(MODELSPEC, "")
        return Licence({"license": stated} if stated else {}, f"{MODELSPEC} in its metadata")
    files = sorted(path.name for path in source.path.glob("LICEN[SC]E*") if path.is_file())
    readme = source.path / "README.md"
    stated = _metadata(readme) if readme.is_file() else {}
    known = {key: str(stated[key]) for key in LICENCE_KEYS if stated.get(key)}
    return Licence(known, "the README.md in its folder", tuple(files))


def _metadata(readme: Path) -> dict[str, Any]:
    """The metadata of a card; nothing where it has none that can be read."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(readme, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError):
        return {}
