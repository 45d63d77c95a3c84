"""CLIP score: does the picture show what the prompt says?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.networks.clip import Clip


class ClipScore:
    """`100 · max(cos(picture, prompt), 0)` of each picture with its prompt (Hessel et al. 2021; they have 2.5).

    torchmetrics clips the mean, and not each picture, at 0; the two agree as long as no cosine is negative.

    Attributes:
        name: with the checkpoint: values of two checkpoints cannot be compared.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip, self.name = clip, f"clip-score:{clip.name}"

    def scores(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """One score a picture, between 0 and 100."""
        if len(pictures) != len(prompts):
            raise EditkitError(f"CLIP score: expected a prompt a picture, got {len(prompts)} and {len(pictures)}")
        cosines = self.clip.cosines(pictures, [(prompt,) for prompt in prompts])
        return (100 * np.maximum(cosines.ravel(), 0)).tolist()
