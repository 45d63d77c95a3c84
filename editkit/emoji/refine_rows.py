"""Rows of the table for the gradient stage."""

from __future__ import annotations

from collections.abc import Iterator

from editkit.emoji.rows import Row


def refine_rows() -> Iterator[Row]:
    return iter(())
