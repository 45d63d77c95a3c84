"""The loop around the steps: progress, log, checkpoints, Ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from editkit.errors import EditkitError
from editkit.tuning.checkpoint import load_checkpoint, save_checkpoint
from editkit.tuning.trainer import Step

LOG = "log.jsonl"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Steps(Protocol):
    """What is trained, a step at a time."""

    @property
    def rows(self) -> int:
        """Rows that networks were run on so far."""
        ...

    def step(self, i: int, /) -> Step:
        """One update. All randomness comes from `i`, so that a resumed run is the same run."""
        ...

    def any(self, stops: bool, /) -> bool:
        """Whether that is so in any process of the run."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Run:
    """Where a run writes and how often.

    Attributes:
        record: what a resumed run must have in common, as JSON.
        preview: called every `preview_every` steps with the number of steps done.
        main: whether this process writes; the others of a run only compute.
    """

    folder: Path
    steps: int
    save_every: int
    record: Mapping[str, Any]
    preview: Callable[[int], None]
    preview_every: int = 0
    main: bool = True
    tracker: Callable[[dict[str, float], int], None] = lambda values, step: None


def train(trainer: Steps, run: Run, resume: bool = False) -> list[dict[str, Any]]:
    """Run the steps that are left; returns the log, one entry a step.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and saved.
        EditkitError: the loss is not finite, or the memory does not suffice; the last checkpoint stays.
    """
    start = _resumed(trainer, run) if resume else 0
    log = _kept_log(run, start)
    done = start
    with _interruptible() as interrupted, _shown(run, start) as show, _memory_explained(), _log_file(run) as write:
        for i in range(start, run.steps):
            clock = time.perf_counter()
            step = trainer.step(i)
            done = i + 1
            entry = {"step": done, **asdict(step), "seconds": time.perf_counter() - clock}
            entry["passes"] = trainer.rows
            log.append(entry)
            write(entry)
            show(step, entry["seconds"])
            run.tracker({"loss": step.loss, "L1": step.erase, "L2": step.preserve}, done)
            if trainer.any(interrupted()):  # all stop after the same step
                break
            if done % run.save_every == 0 and done < run.steps:
                _save(trainer, run, done)
            if run.main and run.preview_every and done % run.preview_every == 0:
                run.preview(done)
    _save(trainer, run, done)
    if done < run.steps:
        raise KeyboardInterrupt
    return log


def _save(trainer: Steps, run: Run, done: int) -> None:
    state = trainer.state_dict()  # in every process, which may have a part of each weight
    if run.main:
        save_checkpoint(run.folder, {"run": dict(run.record), "step": done, **state})


def _resumed(trainer: Steps, run: Run) -> int:
    state = load_checkpoint(run.folder, run.record)
    trainer.load_state_dict(state)
    return state["step"]


def _kept_log(run: Run, start: int) -> list[dict[str, Any]]:
    """The log up to `start`: what came after the last checkpoint is done again."""
    path = run.folder / LOG
    lines = path.read_text().splitlines() if start and path.exists() else []
    kept = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the line that was being written when the process was killed
            break
        if entry["step"] <= start:
            kept.append(entry)
    if run.main:
        path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
    return kept


@contextmanager
def _log_file(run: Run) -> Iterator[Callable[[dict[str, Any]], None]]:
    if not run.main:
        yield lambda entry: None
        return
    with (run.folder / LOG).open("a", buffering=1) as stream:

        def write(entry: dict[str, Any]) -> None:
            stream.write(json.dumps(entry) + "\n")

        yield write


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is answered after the step, so that what is saved is whole; a second one stops at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def handler(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(run: Run, start: int) -> Iterator[Callable[[Step, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not (console.is_terminal and run.main)
    ) as bar:
        task = bar.add_task("refining", total=run.steps, completed=start)
        means: dict[str, float] = {}

        def show(step: Step, seconds: float) -> None:
            now = {"loss": step.loss, "L1": step.erase, "L2": step.preserve, "img/s": step.rows / seconds}
            for name, value in now.items():
                means[name] = value if name not in means else 0.95 * means[name] + 0.05 * value
            words = ", ".join(dict.fromkeys(step.found))
            text = " ".join(f"{name} {value:.3g}" for name, value in means.items())
            bar.update(task, advance=1, description=f"{text} {words[:40]}")

        yield show


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(text in first.lower() for text in OUT_OF_MEMORY):
            raise
        raise EditkitError(
            f"out of memory ({first[:80]}); try --gradient-checkpointing, --param kv, --param lora:16, "
            "--mixed-precision bf16, or a smaller --batch with --accumulate"
        ) from error
