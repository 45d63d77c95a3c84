"""What a stage will need of memory, where something plans it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from editkit.chaining.task import Task
from editkit.errors import EditkitError

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
    from editkit.tuning.memory import plan_memory
    from editkit.tuning.options import RefineOptions

    options = RefineOptions.of(profile=task.model.profile, **task.options)
    concepts = max(1, len(task.words.get("concepts", ())))
    return plan_memory(task.model.source, options, task.device or Shard.from_environment().device(), concepts).total
