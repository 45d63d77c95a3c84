"""The Fréchet distance of an edit's pictures from the unedited model's, or from a folder of photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import Kit, Metric, Observation, held, open_picture
from editkit.evaluation.networks.fid import FeatureSet, Moments, frechet_distance, moments
from editkit.evaluation.statistics.intervals import Estimate
from editkit.options import option
from editkit.plugins import make

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class FID(Metric):
    """Fréchet distance of an edit's pictures from the unedited model's, or from a folder of photographs.

    Of whole sets, so it has no interval; it depends on their size, which results record.

    Attributes:
        reference: a folder of pictures; None compares with the unedited model.
    """

    source = "Heusel et al. 2017"
    needs_detector = False
    needs_weights = ("inception",)
    higher_is_better = False
    is_of_sets = True

    features: str = option("inception", "Whose: Inception's, or the bundled judge's.", choices=("inception", "emoji"))
    network: FeatureSet = held()
    reference: Path | None = held()

    @property
    def needs_original(self) -> bool:
        return self.reference is None

    @property
    def checkpoint(self) -> str:
        return self.network.name

    def prepare(self, kit: Kit) -> Self:
        return self.holding(network=self.load(kit), reference=kit.reference)

    def load(self, kit: Kit) -> FeatureSet:
        """The network whose features are compared."""
        if self.features == "emoji":
            return make("detectors", "emoji-judge")
        from editkit.evaluation.networks.inception import load_inception

        return load_inception(kit.weights.get("inception"))

    def measure(self, observations: Sequence[Observation]) -> list[float | None]:
        return [None] * len(observations)

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

        return moments(pictures(), self.network)


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    if len(files) < 2:
        raise EditkitError(f"--reference {folder}: expected a folder of pictures, found {len(files)} in it")
    return files
