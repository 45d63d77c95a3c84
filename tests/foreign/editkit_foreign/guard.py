"""A guard: half of the guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from editkit.edits.guards import Guided


@dataclass(frozen=True)
class Half:
    """Guide half as strongly, whatever is asked for."""

    source: ClassVar[str] = "nobody"
    settings: ClassVar[tuple[str, ...]] = ()

    concepts: str = "dog"
    setting: str = ""

    @property
    def away(self) -> None:
        return None

    @property
    def beside(self) -> tuple[str, ...]:
        return ()

    def begin(self, guided: Guided, steps: int) -> Guided:
        return lambda without, with_text, scale: guided(without, with_text, scale / 2)
