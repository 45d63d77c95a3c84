"""What a stage will need of memory, where something plans it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from editkit.chaining.task import Task
from editkit.errors import EditkitError
from editkit.plugins import GROUPS

if TYPE_CHECKING:
    from editkit.inverting.round_options import RoundOptions
    from editkit.tuning.options import RefineOptions

DRAWS = ("generate", "compare", "evaluate", "attack", "harden")


def planned_bytes(task: Task, do: str) -> int | None:
    """Planned bytes at the peak; None for what nothing plans, or what cannot be planned."""
    try:
        if do in DRAWS:
            return _of_drawing(task.model.source, task.device, tuple(sorted(task.settings.items())))
        return _of_refining(task) if do == "refine" else None
    except EditkitError:
        return None


@lru_cache(maxsize=8)
def _of_drawing(source: Any, device: str | None, settings: tuple[tuple[str, Any], ...]) -> int:
    from editkit.drawing.plan import plan_drawing

    return plan_drawing(source, device, **dict(settings)).total


def _of_refining(task: Task) -> int:
    from editkit.drawing.files import Shard
    from editkit.inverting.stereo_plan import rows_of
    from editkit.tuning.memory import plan_memory

    options, rounds = run_of(task)
    concepts = max(1, len(task.words.get("concepts", ())))
    phrases = concepts * (1 + (0 if rounds is None else rounds.rounds))
    where = task.device or Shard.from_environment().device()
    return plan_memory(task.model.source, options, where, phrases, learned=rows_of(rounds)).total


def run_of(task: Task) -> tuple[RefineOptions, RoundOptions | None]:
    """The options of a `refine`, and those of its rounds where its objective has some."""
    from editkit.inverting.round_options import rounds_of
    from editkit.tuning.options import RefineOptions

    rounds, said = rounds_of(task.options.get("objective", GROUPS["objectives"].default), task.options)
    return RefineOptions.of(profile=task.model.profile, **said), rounds
