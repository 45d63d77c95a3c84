"""The judge of the bundled model: what does a 64×64 picture show?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from editkit.errors import EditkitError

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

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        features = self.blocks(F.relu(self.stem(pictures))).mean(dim=(2, 3))
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture.

    Attributes:
        concepts: every label, most probable first; `none` where no known concept is seen.
        style, background, gender, tone: the most probable label. Gender and tone mean something for roles only.
    """

    concepts: tuple[str, ...]
    style: str
    background: str
    gender: str
    tone: str

    def sees(self, concept: str | Sequence[str], k: int = 1) -> bool:
        """Whether `concept` (or any of several) is among the first `k`."""
        wanted = {concept} if isinstance(concept, str) else set(concept)
        return bool(wanted & set(self.concepts[:k]))


@dataclass(frozen=True)
class Judge:
    """`verdicts(pictures)`. The labels of every head are in the weights' metadata."""

    net: JudgeNet
    labels: dict[str, tuple[str, ...]]

    @torch.inference_mode()
    def verdicts(self, pictures: Sequence[Image.Image], batch: int = 256) -> list[Verdict]:
        found: list[Verdict] = []
        for start in range(0, len(pictures), batch):
            part = torch.stack([_pixels(picture) for picture in pictures[start : start + batch]])
            scores = self.net(part)
            order = scores["concept"].argsort(dim=1, descending=True).tolist()
            best = {name: scores[name].argmax(dim=1).tolist() for name in self.labels if name != "concept"}
            for row, ranked in enumerate(order):
                names = {name: self.labels[name][numbers[row]] for name, numbers in best.items()}
                found.append(Verdict(tuple(self.labels["concept"][n] for n in ranked), **names))
        return found


def weights_path() -> Path:
    return Path(str(files("editkit.emoji") / "judge.safetensors"))


@cache
def load_judge(path: Path | None = None) -> Judge:
    """The bundled judge, or one from `path`."""
    path = path or weights_path()
    if not path.is_file():
        raise EditkitError(f"{path}: the judge's weights are missing; reinstall editkit, or train it with `make model`")
    with safe_open(path, framework="pt") as opened:
        labels = {name: tuple(one) for name, one in json.loads(opened.metadata()["labels"]).items()}
    net = JudgeNet({name: list(one) for name, one in labels.items()})
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return Judge(net.eval(), labels)


def _pixels(picture: Image.Image) -> Tensor:
    small = picture if picture.size == (64, 64) else picture.resize((64, 64), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
