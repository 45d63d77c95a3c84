"""The Fréchet distance of an edit's pictures from the unedited model's, or from a folder of photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import Metric, Seen, open_picture
from editkit.evaluation.networks.fid import FeatureSet, Moments, frechet_distance, moments
from editkit.evaluation.statistics.intervals import Estimate

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class Frechet(Metric):
    """`fid` (Inception's features) and `fid-emoji` (the bundled judge's). Of whole sets, so it has no interval; it
    depends on their size, which results record.

    Attributes:
        reference: a folder of pictures; None compares with the unedited model.
    """

    needs_detector = False
    higher_is_better = False
    is_of_sets = True

    def __init__(self, name: str, features: FeatureSet, reference: Path | None = None) -> None:
        self.name, self.features, self.reference = name, features, reference
        self.checkpoint, self.needs_original = features.name, reference is None

    def measure(self, seen: Sequence[Seen]) -> list[float | None]:
        return [None] * len(seen)

    def of_set(self, mine: Sequence[Path], original: Sequence[Path] | None) -> Estimate | None:
        """The distance of files `mine` from `original`, or from the reference."""
        against = _files(self.reference) if self.reference is not None else original
        if against is None:
            return None
        ours, theirs = self._moments(mine), self._moments(against)
        return Estimate(frechet_distance(ours, theirs), float("nan"), float("nan"), ours.count, 0)

    def _moments(self, files: Sequence[Path]) -> Moments:
        def pictures() -> Iterator[Image.Image]:
            for file in files:
                picture = open_picture(file)
                if isinstance(picture, Image.Image):
                    yield picture

        return moments(pictures(), self.features)


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    if len(found) < 2:
        raise EditkitError(f"--reference {folder}: expected a folder of pictures, found {len(found)} in it")
    return found
