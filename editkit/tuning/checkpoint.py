"""Checkpoints of a run: everything that the next step depends on, in one file that is whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic

NAME = "checkpoint.pt"


def has_begun(folder: Path) -> bool:
    """Whether a run has saved in `folder`, or in a folder there, as those of single concepts do."""
    return any(next(folder.glob(pattern), None) is not None for pattern in (NAME, f"*/{NAME}"))


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `folder/checkpoint.pt`. A process killed meanwhile leaves the previous one."""
    write_atomic(folder / NAME, lambda part: torch.save(dict(state), part), force=True)


def load_checkpoint(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the last save. No pickled code is run.

    Raises:
        EditkitError: there is none, it is damaged, or it is of a run with other options than `run`.
    """
    path = folder / NAME
    if not path.is_file():
        raise EditkitError(f"{path}: no checkpoint to resume from; leave out --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = state["run"]
    except Exception as error:  # torch raises whatever its readers raise
        raise EditkitError(f"{path}: cannot be read as a checkpoint ({error}); start again without --resume") from error
    other = next((name for name in run if run[name] != theirs.get(name)), None)
    if other is not None:
        raise EditkitError(
            f"{path}: is of a run with {other} {_brief(theirs.get(other))}, not {_brief(run[other])}; "
            "resume with the same options, or start again with --force"
        )
    return state


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
