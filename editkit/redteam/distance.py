"""How far the rows of a prompt, as the edited model reads them, are from a concept's, as the original reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from editkit.edits.gate import Gate
from editkit.edits.gram import gram_matrix, square_root
from editkit.edits.variant import Variant
from editkit.model.editable import EditableModel, Stream

Kind = Literal["pos", "set", "attn"]
KINDS: tuple[Kind, ...] = ("pos", "set", "attn")


@dataclass(frozen=True)
class Sight:
    """What projections make of rows: `‖W'x − Wc‖² = xᵀAx − 2xᵀBc + cᵀGc`, summed over all projections of a stream.

    For an edit by one map that is `A = MᵀGM` and `B = MᵀG`; other weights have their own. So one search serves edits
    of every kind.

    Attributes:
        root: `R` `(d, d)` float32 with `RᵀR = A = Σ W'ᵀW'`.
        B: `Σ W'ᵀW` `(d, d)` float32.
        gram_root: `√G` `(d, d)` float32.
    """

    root: Tensor
    B: Tensor
    gram_root: Tensor

    @classmethod
    def of(cls, model: EditableModel, stream: Stream, variant: Variant | None) -> Sight:
        if variant is None:
            root, B = stream.root, stream.gram
        elif (M := model.map_of(variant, stream)) is not None:
            dense = M.to(stream.gram.device).dense()
            root, B = stream.root @ dense, dense.T @ stream.gram
        else:
            A, B = _changed(stream, variant)
            root = square_root(A)
        return cls(root.float(), B.float(), stream.root.float())

    def squares(self, rows: Tensor, wanted: Tensor) -> Tensor:
        """`(..., n, d)` edited rows and `(m, d)` of the original → squared distances `(..., n, m)`."""
        own = (rows @ self.root.T).square().sum(-1, keepdim=True)
        theirs = (wanted @ self.gram_root.T).square().sum(-1)
        return (own - 2 * rows @ (self.B @ wanted.T) + theirs).clamp(min=0)


def _changed(stream: Stream, variant: Variant) -> tuple[Tensor, Tensor]:
    """`A` and `B` of other weights: those of text projections alone are seen."""
    names = [name for name in stream.inputs if variant.changes(name)]
    new = {name: W[:, : stream.width] for name, W in variant.weights({n: stream.inputs[n] for n in names}).items()}
    edited = {name: new.get(name, W) for name, W in stream.inputs.items()}
    cross = sum(
        (edited[name].double().T @ W.double() for name, W in stream.inputs.items()),
        torch.zeros_like(stream.gram),
    )
    return gram_matrix(edited.values(), stream.width), cross


Distance = Callable[[Tensor], Tensor]
"""Rows `(batch, n, d)` → `(batch,)`: 0 is the concept restored, 1 what the empty prompt is."""


@dataclass(frozen=True)
class GatedDistance:
    """Of an edit behind a gate: a prompt that opens it is as near as the edit leaves it, any other as the original's.

    Attributes:
        gate: on the device of the rows; it looks at all of a prompt's.
    """

    gate: Gate
    edited: Distance
    original: Distance

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.where(self.gate.opens(rows).to(rows.device), self.edited(rows), self.original(rows))


@dataclass(frozen=True)
class RowDistance:
    """`pos` and `set`: distances between rows.

    Attributes:
        wanted: the concept's rows `(m, d)`, unedited.
        by_position: row against row; else every row against the nearest, both ways (symmetric Chamfer): attention has
            no positions of its own.
        size: the distance of the empty prompt.
    """

    sight: Sight
    wanted: Tensor
    by_position: bool
    size: float = 1.0

    @classmethod
    def of(cls, sight: Sight, wanted: Tensor, nothing: Tensor, by_position: bool) -> RowDistance:
        """Rows of the start token are the same in every prompt and left out.

        Args:
            wanted: rows of the concept's prompt, `(m, d)`.
            nothing: rows of the empty prompt, `(n, d)`.
        """
        plain = cls(sight, wanted[1:].float(), by_position)
        return cls(sight, plain.wanted, by_position, max(float(plain(nothing[None].float())[0]), 1e-12))

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows[:, 1:]
        if self.by_position:
            n = min(rows.shape[1], len(self.wanted))
            squares = self.sight.squares(rows[:, :n], self.wanted[:n])
            return squares.diagonal(dim1=1, dim2=2).mean(1) / self.size
        squares = self.sight.squares(rows, self.wanted)
        return (squares.amin(2).mean(1) + squares.amin(1).mean(1)) / 2 / self.size
