"""What an attack takes: counted, never estimated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """All five of them, always.

    Attributes:
        passes: rows that went through a denoiser, a batch of eight counts as eight.
        backward: rows whose gradients were computed, of denoiser or text encoder.
        encodings: prompts that went through the text encoder.
        judged: pictures that the judge looked at.
        seconds: of the clock on the wall.
    """

    passes: int = 0
    backward: int = 0
    encodings: int = 0
    judged: int = 0
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def as_dict(self) -> dict[str, float]:
        """As JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}
