"""What is kept of an inversion on its way, so that it can go on where it was stopped: beside the file that it makes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.embeddings.learned import Vectors
from editkit.errors import EditkitError
from editkit.inverting.search import Begun, Found
from editkit.tuning.checkpoint import NAME, load_checkpoint, save_checkpoint

Starts = list[tuple[str, str]]
"""Of every restart the word that it begins at, and with masks the one for what stays."""


@dataclass
class Unfinished:
    """The state of an inversion, in a folder that goes when it is done.

    Attributes:
        folder: None keeps nothing.
        run: what a resumed run must have in common.
        starts: of all restarts.
        found: what restarts that ended have learned.
        begun: where the one after these is; None at its beginning.
    """

    folder: Path | None
    run: Mapping[str, Any]
    starts: Starts = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    begun: Begun | None = None

    def load(self) -> None:
        """What was kept.

        Raises:
            EditkitError: nothing was, or it is of another run.
        """
        if self.folder is None:
            raise EditkitError("--resume: goes on from what lies beside the file that is made; give --out")
        state = load_checkpoint(self.folder, self.run)
        self.starts = [(word, kept) for word, kept in state["starts"]]
        self.found = [_found(each) for each in state["found"]]
        self.begun = state["begun"]

    def keep(self, begun: Begun) -> None:
        """Where the present restart is."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        found = [{**vars(each), "erased": list(each.erased), "kept": _listed(each.kept)} for each in self.found]
        starts = [list(each) for each in self.starts]
        save_checkpoint(self.folder, {"run": dict(self.run), "starts": starts, "found": found, "begun": dict(begun)})

    def done(self) -> None:
        """Forget it."""
        if self.folder is not None and (self.folder / NAME).is_file():
            shutil.rmtree(self.folder)


def folder_beside(out: Path) -> Path:
    """`church.ti.safetensors` → `church.ti.resume`."""
    return out.with_name(f"{out.name.removesuffix('.safetensors')}.resume")


def has_begun(out: Path) -> bool:
    """Whether an inversion to that file was stopped on its way."""
    return (folder_beside(out) / NAME).is_file()


def check_begun(out: Path, resume: bool, force: bool) -> None:
    """Refuse to begin anew over what can go on.

    Raises:
        EditkitError: what was stopped is there.
    """
    if has_begun(out) and not (resume or force):
        raise EditkitError(
            f"{folder_beside(out)} is of an inversion that was stopped; give --resume to go on, or --force to start "
            "again"
        )


def _found(kept: Mapping[str, Any]) -> Found:
    said = {**kept, "erased": tuple(kept["erased"])}
    return Found(**{**said, "kept": None if kept["kept"] is None else tuple(kept["kept"])})


def _listed(vectors: Vectors | None) -> Sequence[Any] | None:
    return None if vectors is None else list(vectors)
