"""A run that is killed between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from editkit.tuning.trainer import Trainer


@contextmanager
def killed_at(step: int, trainer: Any = Trainer) -> Iterator[None]:
    """What trains in this context ends before its step of that number, and is given no time to save anything."""
    whole = trainer.step

    def killed(self: Any, i: int) -> Any:
        if i == step:
            raise ZeroDivisionError
        return whole(self, i)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(trainer, "step", killed)
        yield
