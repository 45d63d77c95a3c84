"""A training loop that shows its progress, survives Ctrl-C, and resumes where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def train(
    name: str,
    steps: int,
    step: Callable[[int], Tensor],
    state: Mapping[str, Stateful],
    folder: Path,
    save_every: int = 250,
) -> None:
    """Call `step(i)` for `i` up to `steps`; it makes one update and returns the loss.

    Everything in `state` is saved to `folder/{name}.pt` every `save_every` steps and on Ctrl-C. A later call goes on
    from there. `step` must draw its randomness from `i` alone (`seeded`), so that a resumed run is the same run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    start = _resume(path, state)
    average = math.nan
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), refresh_per_second=0.5) as progress:
        task = progress.add_task(name, total=steps, completed=start)
        done = start
        try:
            for done in range(start, steps):
                loss = float(step(done))
                if not math.isfinite(loss):
                    raise FloatingPointError(f"{name}: the loss is {loss} at step {done}; lower the learning rate")
                average = loss if math.isnan(average) else 0.98 * average + 0.02 * loss
                progress.update(task, completed=done + 1, description=f"{name} loss {average:.4f}")
                if (done + 1) % save_every == 0:
                    _save(path, state, done + 1)
                    progress.log(f"{name}: step {done + 1}, loss {average:.4f}")
        except KeyboardInterrupt:
            _save(path, state, done)
            raise
    _save(path, state, steps)


def warm_up_flat_down(step: int, steps: int, warm_up: int, flat: float) -> float:
    """Learning-rate factor: linear up, flat until `flat * steps`, linear down to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return min(1.0, (steps - step) / (steps * (1 - flat)))


def _resume(path: Path, state: Mapping[str, Stateful]) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for key, part in state.items():
        part.load_state_dict(saved[key])
    return saved["step"]


def _save(path: Path, state: Mapping[str, Stateful], step: int) -> None:
    part = path.with_suffix(".part")
    torch.save({"step": step, **{key: value.state_dict() for key, value in state.items()}}, part)
    part.replace(path)
