"""Pictures for detectors and metrics: some drawn by the bundled model once, some plain, one photograph."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CONCEPTS = ("church", "dog", "pizza", "rocket")


@cache
def drawn() -> tuple[Image.Image, ...]:
    """One picture of each of `CONCEPTS`."""
    from editkit.drawing.pipelines import open_denoiser
    from editkit.drawing.sampler import Sampling, draw, jobs

    wanted = jobs([f"a {concept}" for concept in CONCEPTS], [0])
    return tuple(
        picture for _, picture in draw(open_denoiser("emoji"), wanted, sampling=Sampling(steps=12, guidance=3.0))
    )


def noise(number: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(number)]


def photograph() -> Image.Image:
    """Grace Hopper in uniform, 512×600, which comes with matplotlib."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        pytest.skip("matplotlib, whose sample photograph is judged, is not installed")
    return Image.open(Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg")


def truncated(folder: Path) -> Image.Image:
    """A picture whose file ends too early: it opens, and fails when its pixels are asked for."""
    whole, cut = folder / "whole.png", folder / "cut.png"
    noise(1)[0].save(whole)
    cut.write_bytes(whole.read_bytes()[:4000])
    return Image.open(cut)
