"""A kind of stage: a note beside what other stages make."""

from __future__ import annotations

from pathlib import Path

from editkit.chaining.kind import Kind
from editkit.chaining.task import Task


def note(edits: list[str], out: Path, words: str = "") -> None:
    """Write down which edits there are."""
    out.write_text("\n".join([words, *edits]), encoding="utf-8")


def _run(task: Task) -> None:
    note(list(task.inputs["edits"]), task.place / "note.txt", **task.words)


NOTE = Kind("Write down which edits there are.", "editkit_foreign.stage:note", _run, several="edits")
