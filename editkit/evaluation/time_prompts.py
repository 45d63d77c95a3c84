"""The prompts of TIME's CSV that are about one edit, for the suite `time`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.time_metrics import Trial, read_time_trials
from editkit.files.text.table import Layout


@dataclass(frozen=True)
class TimePrompts:
    """The trials of one row `old → new`."""

    path: Path
    old: str
    new: str
    trials: tuple[Trial, ...]
    layout: Layout = field(default_factory=Layout)

    @classmethod
    def open(
        cls, path: Path, changes: Mapping[str, tuple[Sequence[str], Sequence[str]]], layout: Layout | None = None
    ) -> TimePrompts:
        """The row that the edits made.

        Args:
            changes: edit → its concepts and what they became.
            layout: what the file does not say itself.

        Raises:
            EditkitError: as `read_time_trials`; no edit is given, they differ, or the file has no such row.
        """
        made = {(*old, *new): name for name, (old, new) in changes.items()}
        if len(made) != 1 or len(next(iter(made))) != 2:
            said = "; ".join(f"{name}: {', '.join(old)} → {', '.join(new)}" for name, (old, new) in changes.items())
            raise EditkitError(
                f"suite time: expected edits of one prompt to one other, as `editkit edit` makes, got {said or 'none'}"
            )
        old, new = next(iter(made))
        rows = _rows(read_time_trials(path, layout))
        if (old, new) not in rows:
            known = "; ".join(f"{a} → {b}" for a, b in list(rows)[:5])
            raise EditkitError(f"{path}: no row changes {old!r} to {new!r}, as the edits do; it has {known}, ...")
        return cls(path, old, new, rows[old, new], layout or Layout())

    @property
    def record(self) -> dict[str, Any]:
        """For a result: which file, and which row."""
        with self.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"file": self.path.name, "sha256": sha256, "old": self.old, "new": self.new, **self.layout.record}

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)


def _rows(trials: Sequence[Trial]) -> dict[tuple[str, str], tuple[Trial, ...]]:
    """Each edit's trials; a row begins with its trial of efficacy."""
    rows: dict[tuple[str, str], tuple[Trial, ...]] = {}
    edit = ("", "")
    for trial in trials:
        if trial.kind == "efficacy":
            edit = (trial.other, trial.wanted)
        rows[edit] = (*rows.get(edit, ()), trial)
    return rows
