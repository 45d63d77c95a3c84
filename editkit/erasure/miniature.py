"""What the mathematics of an edit holds at its peak, counted on a small copy.

Both sides of every large tensor grow with the width of a model: a copy with an eighth of all counts takes a
sixty-fourth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

from editkit.edits.figures import measure
from editkit.edits.gram import gram_matrix
from editkit.edits.method import Method
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords
from editkit.embeddings.encoder import TextEncoder
from editkit.erasure.near import likeness
from editkit.files.lazy import Lazy
from editkit.model.editable import Stream
from editkit.model.memory import peak_of

SMALL = 128
"""Width of a miniature."""
USED = 0.75
"""Share of the directions that words have: a null space needs some that they have not."""


@dataclass(frozen=True)
class Miniature:
    """A stream whose counts are all smaller by one factor, filled with random numbers.

    Attributes:
        stream: the stream itself, of which shapes alone are read.
    """

    stream: Stream

    @property
    def width(self) -> int:
        return self._less(self.stream.width)

    def searching(self, encoder: TextEncoder, words: Sequence[str], concepts: Sequence[str]) -> int:
        """Bytes of looking for words that mean the same as a concept.

        Args:
            encoder: gives rows of the miniature's width.
        """
        gram = torch.eye(self.width, dtype=torch.float64)
        return self._bytes(lambda: likeness(encoder, words[: self._less(len(words))], concepts, gram))

    def summing(self) -> int:
        """Bytes of `G`, and of what is held while it is summed."""
        return self._bytes(lambda: gram_matrix(self._projections.values(), self.width))

    def solving(self, options: Method, rows: Sequence[int], words: Sequence[int], preserved: int) -> int:
        """Bytes of the solve and of its figures, beside rows and `G`.

        Args:
            rows: how many each concept has.
            words: how many each protected word has.
            preserved: how many are preserved.
        """
        made = torch.Generator().manual_seed(0)

        def randn(count: int) -> Tensor:
            return torch.randn(count, self.width, generator=made)

        many = self._less(len(words))
        lengths = [words[n * len(words) // many] for n in range(many)]
        used = (torch.arange(self.width) < USED * self.width).float()
        held = ProtectedWords(tuple(map(str, range(many))), tuple(randn(count) * used for count in lengths))
        gram = gram_matrix(self._projections.values(), self.width)
        gram.diagonal().add_(1e-3 * float(gram.trace()) / self.width)  # of few rows it would be singular
        problem = Problem(
            tuple(Rows(randn(self._less(count)), randn(self._less(count)).double()) for count in rows),
            randn(self._less(preserved)).double() if preserved else None,
            self._projections,
            gram,
            held,
            empty=randn(self._less(max(rows))).double() if options.reads_empty else None,
        )
        with catch_warnings():
            simplefilter("ignore")  # numbers without meaning may blow up
            return self._bytes(lambda: measure(options.solve(problem), problem, checked=False))

    @property
    def _projections(self) -> Lazy[Tensor]:
        shapes = {name: (self._less(len(W)), W.dtype) for name, W in self.stream.inputs.items()}
        return Lazy({name: partial(_random, rows, self.width, dtype) for name, (rows, dtype) in shapes.items()})

    def _less(self, count: int) -> int:
        return max(1, round(count * min(1.0, SMALL / self.stream.width)))

    def _bytes(self, run: Callable[[], Any]) -> int:
        return round(peak_of(lambda: _dropped(run())) * max(1.0, self.stream.width / SMALL) ** 2)


def _random(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, columns).to(dtype)


def _dropped(result: object) -> None:
    """A pass has no result."""
