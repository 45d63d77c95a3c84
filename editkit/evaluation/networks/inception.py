"""FID's features: Inception-v3 of December 2015, 2048 wide, by torch-fidelity, with weights that are on disk."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from editkit.evaluation.extra import need
from editkit.evaluation.networks.weights import read_weights, usual_path
from editkit.evaluation.pixels import in_parts, stack
from editkit.model.checkpoints.projections import fingerprint

WHAT = "FID's Inception"
FILE = "weights-inception-2015-12-05-6726825d.pth"
SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
WIDTH = 2048


class Inception:
    """The `FeatureSet` of FID. Pictures are resized as the TensorFlow of 2015 did: published values rest on it."""

    def __init__(self, net: Any, name: str, batch: int = 16) -> None:
        self.net, self.name, self.batch = net, name, batch

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """`(n, 2048)` float64."""
        parts = [self.net(stack(part))[0].double().numpy() for part in in_parts(pictures, self.batch)]
        return np.concatenate([np.zeros((0, WIDTH)), *parts])


def load_inception(weights: Path | str | None = None) -> Inception:
    """Inception with `weights` (torch-fidelity's file where torch keeps its downloads, if None).

    Raises:
        EditkitError: torch-fidelity is not installed, or the weights are not there.
    """
    path = usual_path(FILE) if weights is None else Path(weights)
    # torch-fidelity reads the file with a reader that runs code: here it is first read with one that does not.
    tensors = read_weights(path, WHAT, SOURCE)
    package: Any = need("torch_fidelity.feature_extractor_inceptionv3", "fid", WHAT)
    net = package.FeatureExtractorInceptionV3("inception-v3-compat", [str(WIDTH)], str(path))
    name = f"inception-v3-{WIDTH}-{fingerprint(tensors)[:8]}, torch-fidelity-{version('torch-fidelity')}"
    return Inception(net, name)
