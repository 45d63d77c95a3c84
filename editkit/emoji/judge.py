"""The judge of the bundled model: what does a 64×64 picture show?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, detect_in_batches, ranked
from editkit.options import Checked, option

NONE = "none"
CHANNELS = (48, 96, 160, 256)


class Block(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.skip = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(inner + self.skip(x))


class JudgeNet(nn.Module):
    """Pictures `(b, 3, 64, 64)` in [-1, 1] → logits of every head."""

    def __init__(self, heads: dict[str, Sequence[str]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS[0], 4, 2, 1)
        sizes = (CHANNELS[0], *CHANNELS)
        self.blocks = nn.Sequential(
            *(Block(a, b, 1 if n == 0 else 2) for n, (a, b) in enumerate(zip(sizes, CHANNELS, strict=False)))
        )
        self.heads = nn.ModuleDict({name: nn.Linear(CHANNELS[-1], len(labels)) for name, labels in heads.items()})

    def features(self, pictures: Tensor) -> Tensor:
        """The layer before the heads, `(b, 256)`."""
        return self.blocks(F.relu(self.stem(pictures))).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        features = self.features(pictures)
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(eq=False)
class EmojiJudge(Checked):
    """The judge of the bundled model: every known concept, `none` among them, and four attributes.

    Attributes `gender` and `tone` mean something for roles only. The labels of every head are in the weights' metadata.

    Raises:
        EditkitError: there is no such file.
    """

    source: ClassVar[str] = "trained with the bundled model: editkit.emoji.train_judge"

    weights: Path | str | None = option(None, "Others than those that editkit brings.")
    batch: int = option(256, "Pictures at a time.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        path = weights_path() if self.weights is None else Path(self.weights)
        self.net, self.labels = _read(path)
        self.name = "emoji-judge" if self.weights is None else f"emoji-judge:{path.stem}"

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        return detect_in_batches(pictures, self._judge, self.batch)

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The layer before the heads, `(n, 256)` float64: the feature set of the bundled model's Fréchet distance."""
        parts = [
            self.net.features(torch.stack([_pixels(picture) for picture in pictures[start : start + self.batch]]))
            for start in range(0, len(pictures), self.batch)
        ]
        return torch.cat(parts).double().numpy() if parts else np.zeros((0, CHANNELS[-1]))

    @torch.inference_mode()
    def _judge(self, part: list[Image.Image]) -> list[Detection]:
        logits = self.net(torch.stack([_pixels(picture) for picture in part]))
        shares = logits["concept"].softmax(dim=1).numpy()
        best = {name: logits[name].argmax(dim=1).tolist() for name in self.labels if name != "concept"}
        detections = [ranked(self.labels["concept"], row) for row in shares]
        return [
            replace(detection, attributes={name: self.labels[name][rows[n]] for name, rows in best.items()})
            for n, detection in enumerate(detections)
        ]


def weights_path() -> Path:
    return Path(str(files("editkit.emoji") / "judge.safetensors"))


@cache
def _read(path: Path) -> tuple[JudgeNet, dict[str, tuple[str, ...]]]:
    if not path.is_file():
        raise EditkitError(f"{path}: the judge's weights are missing; reinstall editkit, or train it with `make model`")
    with safe_open(path, framework="pt") as opened:
        labels = {name: tuple(values) for name, values in json.loads(opened.metadata()["labels"]).items()}
    net = JudgeNet({name: list(values) for name, values in labels.items()})
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval(), labels


def _pixels(picture: Image.Image) -> Tensor:
    small = picture if picture.size == (64, 64) else picture.resize((64, 64), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
