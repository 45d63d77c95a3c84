"""The edits that lie in a folder, for commands that are given none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.files.header import WEIGHTS
from editkit.model.editable import EditableModel
from editkit.variants.folder import TUNED_NAME
from editkit.variants.record import RECORD_KEY, has_metadata, read_record


def edits_in(folder: Path) -> list[Path]:
    """The edit files of `folder`, and its folders of `refine` and `hide`; the newest first."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in WEIGHTS and has_metadata(path, RECORD_KEY)]
    tuned = [path.parent for path in folder.glob(f"*/{TUNED_NAME}") if has_metadata(path, RECORD_KEY)]
    return sorted([*files, *tuned], key=lambda path: (-_written(path), path.name))


def edits_here(model: EditableModel, linear: bool = False) -> tuple[list[Path], list[Path]]:
    """The edits of the working folder that were made for `model`, the newest first; and those that were not.

    Args:
        linear: leave out what `refine` and `hide` made.

    Raises:
        EditkitError: there is none for it.
    """
    known = [path for path in edits_in(Path()) if not (linear and path.is_dir())]
    fitting = [path for path in known if _is_for(read_record(path), model)]
    others = [path for path in known if path not in fitting]
    if not fitting:
        for_others = f" ({', '.join(map(str, others))}: for another)" if others else ""
        raise EditkitError(
            f"no edit for model {model.source.name} in this folder{for_others}; make one with "
            "`editkit erase --concept church --method rece`, or name one"
        )
    return fitting, others


def _is_for(record: dict[str, Any], model: EditableModel) -> bool:
    if record.get("family") != model.source.family.name:
        return False
    return record.get("text_encoder_sha256") == model.text_encoder_sha256


def _written(path: Path) -> int:
    return (path / TUNED_NAME if path.is_dir() else path).stat().st_mtime_ns
