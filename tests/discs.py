"""Pictures as large as people's models draw: a disc on noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from editkit.drawing.sampler import Job

SIZE = (512, 384)


def disc_picture(job: Job, size: tuple[int, int] = SIZE) -> Image.Image:
    """As hard to compress as a photograph, and alike in all variants but for the disc."""
    width, height = size
    ramp = np.linspace(40, 200, width)[None, :, None] + np.array([0, 10, 30])
    made = np.random.default_rng([job.seed, len(job.prompt)])
    noisy = ramp + made.normal(0, 8, (height, width, 3))
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    colour = [(230, 60, 60), (60, 200, 80), (70, 90, 230)][job.variant % 3]
    ImageDraw.Draw(picture).ellipse((width // 4, height // 4, width // 2, 3 * height // 4), fill=colour)
    return picture
