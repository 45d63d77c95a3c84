"""LPIPS (Zhang et al. 2018), AlexNet, version 0.1: how different do two pictures look?

editkit brings no weights of it. The five convolutions of torchvision's AlexNet are looked for where torchvision keeps
its downloads; the linear weights are inside the package `lpips` (BSD-2-Clause), which is read and not imported: it
would need torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from editkit.errors import EditkitError
from editkit.evaluation.networks.weights import fill, read_weights, usual_path
from editkit.evaluation.pixels import in_parts, stack

WHAT = "LPIPS"
BACKBONE = "alexnet-owt-7be5be79.pth"
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TAPS = (1, 4, 7, 9, 11)
"""The layers of `alexnet()` that are compared: every ReLU."""


def alexnet() -> nn.Sequential:
    """The convolutions of AlexNet (Krizhevsky 2014), numbered as torchvision numbers its `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip


class Lpips:
    """`distances(first, second)` of pairs of pictures.

    Attributes:
        name: with backbone, version and, if the pictures are resized, their size.
    """

    def __init__(self, net: nn.Module, linear: list[Tensor], size: int | None = None, batch: int = 32) -> None:
        self.net, self.linear, self.size, self.batch = net, linear, size, batch
        self.name = "lpips-alex-0.1" + (f"@{size}" if size else "")

    @torch.inference_mode()
    def distances(self, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> list[float]:
        """One distance a pair, 0 for the same picture.

        Raises:
            EditkitError: the numbers of pictures or their sizes differ.
        """
        if len(first) != len(second):
            raise EditkitError(f"{WHAT}: expected pairs of pictures, got {len(first)} and {len(second)}")
        distances: list[float] = []
        for left, right in zip(in_parts(first, self.batch), in_parts(second, self.batch), strict=True):
            both = stack([*left, *right], self.size)
            distances += self._pairs(*both.split(len(left))).tolist()
        return distances

    def _pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """`Σ_l mean_hw w_l · (f_l − g_l)²` with features of unit length in each pixel (equation 1)."""
        total = torch.zeros(len(first))
        x, y = _scaled(first), _scaled(second)
        for number, layer in enumerate(self.net.children()):
            x, y = layer(x), layer(y)
            if number in TAPS:
                weights = self.linear[TAPS.index(number)]
                total += ((_unit(x) - _unit(y)).square() * weights).sum(dim=1).mean(dim=(1, 2))
        return total


def load_lpips(backbone: Path | str | None = None, linear: Path | str | None = None, size: int | None = None) -> Lpips:
    """LPIPS with weights from disk.

    Args:
        backbone: torchvision's AlexNet; where torchvision keeps it, if None.
        linear: the linear weights, `alex.pth` of version 0.1; those of the installed package `lpips`, if None.
        size: pixels to which pictures are resized first; None compares them as they are.

    Raises:
        EditkitError: a file is not there, or holds something else.
    """
    where = usual_path(BACKBONE) if backbone is None else Path(backbone)
    weights = read_weights(where, f"{WHAT}'s AlexNet", f"https://download.pytorch.org/models/{BACKBONE}")
    kept = {name.removeprefix("features."): weight for name, weight in weights.items() if name.startswith("features.")}
    net = fill(alexnet(), kept, f"{WHAT}'s AlexNet", where)
    path = _packaged_linear() if linear is None else Path(linear)
    rows = read_weights(path, f"{WHAT}'s linear weights", "package lpips, lpips/weights/v0.1/alex.pth")
    try:
        layers = [rows[f"lin{number}.model.1.weight"].float() for number in range(len(TAPS))]
    except KeyError as error:
        raise EditkitError(f"{WHAT}'s linear weights: {path} holds something else: no {error.args[0]}") from error
    return Lpips(net, layers, size)


def _packaged_linear() -> Path:
    spec = find_spec("lpips")
    if spec is None or spec.origin is None:
        raise EditkitError(
            f"{WHAT}'s linear weights: package lpips is not installed; pip install --no-deps lpips, or name the file"
        )
    return Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth"


def _scaled(pictures: Tensor) -> Tensor:
    shift, scale = torch.tensor(SHIFT)[:, None, None], torch.tensor(SCALE)[:, None, None]
    return (pictures.float() / 127.5 - 1 - shift) / scale


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
