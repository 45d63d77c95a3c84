"""Fréchet distance between two sets of pictures (Heusel et al. 2017): FID, and the same with other features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from editkit.errors import EditkitError


class FeatureSet(Protocol):
    """Pictures → rows.

    Attributes:
        name: results record it; distances of two feature sets cannot be compared.
    """

    name: str

    def features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """`(n, width)` float64."""
        ...


@dataclass
class Moments:
    """Count, mean and scatter of rows, gathered in parts: 30,000 pictures take the memory of one batch."""

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scatter: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, rows: np.ndarray) -> None:
        """Take `(n, width)` more rows (Chan, Golub and LeVeque 1983)."""
        if not len(rows):
            return
        rows = np.asarray(rows, dtype=np.float64)
        mean = rows.mean(axis=0)
        scatter = (rows - mean).T @ (rows - mean)
        if self.count == 0:
            self.count, self.mean, self.scatter = len(rows), mean, scatter
            return
        together, apart = self.count + len(rows), mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(apart, apart) * (self.count * len(rows) / together)
        self.mean = self.mean + apart * (len(rows) / together)
        self.count = together

    @property
    def covariance(self) -> np.ndarray:
        """Over `count − 1`."""
        return self.scatter / (self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """`|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)` in float64 (Dowson and Landau 1982).

    The trace of the root is the sum of the singular values of `C₁^½ C₂^½`: that stays real, and exact to rounding,
    when there are fewer pictures than features, where a root of `C₁ C₂` itself does not.

    Raises:
        EditkitError: fewer than two pictures on a side, or features of different widths.
    """
    for side in (first, second):
        if side.count < 2:
            raise EditkitError(f"Fréchet distance: expected at least 2 pictures on either side, got {side.count}")
    if len(first.mean) != len(second.mean):
        raise EditkitError(
            f"Fréchet distance: expected the same features of both, got widths {len(first.mean)} and {len(second.mean)}"
        )
    common = np.linalg.svd(_root(first.covariance) @ _root(second.covariance), compute_uv=False).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * common
    return max(0.0, float(np.square(first.mean - second.mean).sum() + spread))


def moments(pictures: Iterable[Image.Image], features: FeatureSet, batch: int = 64) -> Moments:
    """The moments of the features of pictures, which may come from a generator."""
    total = Moments()
    for part in _parts(pictures, batch):
        total.add(features.features(part))
    return total


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _parts(pictures: Iterable[Image.Image], batch: int) -> Iterable[list[Image.Image]]:
    """Not `itertools.batched`: Python 3.11 has none."""
    part: list[Image.Image] = []
    for picture in pictures:
        part.append(picture)
        if len(part) == batch:
            yield part
            part = []
    if part:
        yield part
