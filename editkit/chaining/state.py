"""What is kept of a job beside its result: what it was made of, whether it ended, and what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from editkit.chaining.jobs import Job
from editkit.files.atomic import write_text_atomic

STATE, EARLIER, LOCKS = "stage.json", "earlier", ".locks"


@dataclass(frozen=True)
class State:
    """The contents of a job's `stage.json`.

    Attributes:
        key: of what it was made of.
        ended: when; empty while it runs, or where it was stopped.
        seconds: from its start to its end; of a job that was stopped and went on, of the last part.
        content: what it was made of, in full.
    """

    key: str
    ended: str
    seconds: float
    content: dict[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.ended)


def read_state(place: Path) -> State | None:
    """None where nothing was begun."""
    try:
        return State(**json.loads((place / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or cut short by a power cut: it is done again
        return None


def write_state(place: Path, key: str, job: Job, seconds: float | None = None) -> None:
    """That a job begins, or, with `seconds`, that it ended."""
    ended = "" if seconds is None else datetime.now(UTC).isoformat(timespec="seconds")
    state = State(key, ended, round(seconds or 0.0, 3), job.content)
    write_text_atomic(place / STATE, json.dumps(asdict(state), indent=1, default=str) + "\n", force=True)


def is_done(folder: Path, job: Job, key: str) -> bool:
    """Whether a run holds its result, of the same key."""
    state = read_state(folder / job.name)
    return state is not None and state.done and state.key == key


def make_room(folder: Path, job: Job, key: str) -> bool:
    """Put away what a job of another key left, and bring back what one of this key did.

    Returns:
        Whether there is a finished result of this key now.
    """
    place, before = folder / job.name, folder / EARLIER
    state = read_state(place)
    if state is not None and state.key != key:
        _move(place, before / f"{job.name}-{state.key[:8]}")
    kept = before / f"{job.name}-{key[:8]}"
    if not place.exists() and kept.is_dir():
        _move(kept, place)
    return is_done(folder, job, key)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    free = target
    while free.exists():  # the same key was put away before it ended
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    source.rename(free)


@contextmanager
def held(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process alone may work on `name`; another one may, on this machine or on a shared folder."""
    lock = FileLock(folder / LOCKS / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
