"""A file of captions as a prior: what people ask for is held where it is, however many captions there are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.vocabulary import WORDS
from editkit.embeddings.cache import kept
from editkit.embeddings.encoder import TextEncoder
from editkit.errors import EditkitError
from editkit.files.text.table import open_table
from editkit.progress import progress

AT_A_TIME = 256
Texts = Sequence[str] | str | os.PathLike[str]
"""Captions, or a file of them: one a line, or a table with such a column."""


@dataclass(frozen=True)
class Captions:
    """Captions that are read one after another, as often as they are asked for.

    Attributes:
        given: the texts or their file.
        count: how many there are.
        sha256: of all of them.
    """

    given: Texts
    count: int
    sha256: str
    _known: dict[tuple[str, ...], tuple[Tensor, int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, given: CaptionsLike) -> Captions:
        """Read them once; what was read already stays as it is.

        Raises:
            EditkitError: the file cannot be read, nothing says which column the captions are, or there are none.
        """
        if isinstance(given, Captions):
            return given
        count, digest = 0, hashlib.sha256()
        for caption in _texts(given):
            count += 1
            digest.update(caption.encode() + b"\n")
        if not count:
            raise EditkitError("--prior: expected captions, got none")
        return cls(given, count, digest.hexdigest())

    def moment(self, encoders: Sequence[TextEncoder]) -> tuple[Tensor, int]:
        """The mean over captions of the mean of `c cᵀ` over their rows, `(d, d)` float64, and how many captions were
        left out since an encoder does not read all of them. Memory does not grow with the number of captions; what came
        out is kept on disk."""
        marks = tuple(encoder.fingerprint for encoder in encoders)
        if marks not in self._known:
            stored = kept(["captions", self.sha256, *marks], lambda: self._summed(encoders))
            self._known[marks] = stored[:-1], int(stored[-1, 0])
        moment, left_out = self._known[marks]
        return moment.to(encoders[0].device), left_out

    def record(self, encoders: Sequence[TextEncoder]) -> dict[str, Any]:
        """What is written down of it; the texts are not."""
        return {"captions": self.count, "left_out": self.moment(encoders)[1], "sha256": self.sha256}

    def _summed(self, encoders: Sequence[TextEncoder]) -> Tensor:
        """The moment, and a last row with the number of captions that were left out."""
        d, used = encoders[0].width, 0
        total = torch.zeros(d, d, dtype=torch.float64)
        for some in progress(_batches(_texts(self.given)), -(-self.count // AT_A_TIME), "captions"):
            fitting = [caption for caption in some if all(encoder.fits(caption) for encoder in encoders)]
            if not fitting:
                continue
            parts = [encoder.encode_once(fitting, encoder.spare, coarse=True) for encoder in encoders]
            rows = [torch.cat(part) for part in zip(*parts, strict=True)]
            weighed = torch.cat([row / len(row) ** 0.5 for row in rows])
            total += (weighed.T @ weighed).double().cpu()
            used += len(fitting)
        last = torch.full((1, d), float(self.count - used), dtype=torch.float64)
        return torch.cat([total / max(used, 1), last])


CaptionsLike = Captions | Texts
"""Captions as users give them, or what was read of them."""


def _texts(given: Texts) -> Iterator[str]:
    if not isinstance(given, str | os.PathLike):
        yield from given
        return
    with open_table(Path(given), WORDS) as table:
        for row in table.rows:
            if row.fault or not row.cells["word"]:
                raise EditkitError(f"{given}, line {row.lines[0]}: {row.fault or 'the caption is empty'}; mend it")
            yield row.cells["word"]


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(texts, AT_A_TIME)):
        yield some
