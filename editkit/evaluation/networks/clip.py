"""CLIP (Radford et al. 2021) from a folder on disk: how alike are a picture and a text?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from editkit.errors import EditkitError
from editkit.evaluation.pixels import in_parts
from editkit.files.header import read_header
from editkit.model.checkpoints.projections import fingerprint
from editkit.model.quiet import quiet

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


class Clip:
    """Pictures and texts as vectors, and `cosines(pictures, texts)` between them.

    Attributes:
        name: the folder's name and the first digits of the weights' fingerprint: results record it.
        scale: what CLIP multiplies cosines by before a softmax.
    """

    def __init__(self, folder: Path, model: Any, tokenizer: Any, prepare: Any, batch: int = 32) -> None:
        self.model, self.tokenizer, self.prepare, self.batch = model, tokenizer, prepare, batch
        self.name = f"{folder.name}-{fingerprint(model.state_dict())[:8]}"
        self.scale = float(model.logit_scale.detach().exp())
        self.length = int(model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Unit vectors `(n, width)`, float64."""
        parts = [torch.zeros(0, self.model.config.projection_dim)]
        for part in in_parts(pictures, self.batch):
            pixels = self.prepare([picture.convert("RGB") for picture in part], return_tensors="pt").pixel_values
            parts.append(self.model.get_image_features(pixels).pooler_output)
        return F.normalize(torch.cat(parts).double(), dim=1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `(m, width)`, float64. What goes past CLIP's window is cut off, with one warning that counts."""
        once = list(dict.fromkeys(texts))
        features: dict[str, Tensor] = {}
        cut = 0
        for start in range(0, len(once), self.batch):
            part = once[start : start + self.batch]
            cut += sum(len(ids) > self.length for ids in self.tokenizer(part).input_ids)
            sizes: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": self.length}
            rows = self.model.get_text_features(**self.tokenizer(part, return_tensors="pt", **sizes)).pooler_output
            features |= dict(zip(part, rows.double(), strict=True))
        if cut:
            warnings.warn(f"{cut} of {len(once)} texts are longer than CLIP's {self.length} tokens: cut", stacklevel=2)
        return F.normalize(torch.stack([features[text] for text in texts]), dim=1)

    def cosines(self, pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> np.ndarray:
        """Of every picture with each of its own texts: `(n, texts a picture)`, float64."""
        shown = self.pictures(pictures)
        columns = [(shown * self.texts(column)).sum(dim=1) for column in zip(*texts, strict=True)]
        return torch.stack(columns, dim=1).numpy() if columns else np.zeros((len(pictures), 0))


@cache
def load_clip(folder: Path | str) -> Clip:
    """CLIP from a folder of transformers' format, on the CPU, in float32; kept in memory for the next caller.

    Raises:
        EditkitError: the folder or a file of it is missing, or cannot be read.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder = Path(folder)
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise EditkitError(
            f"CLIP: expected {', '.join(FILES)} and a tokenizer in {folder}, {missing[0]} is not there; put "
            "a download of openai/clip-vit-large-patch14 or another CLIP from the Hugging Face hub there"
        )
    try:
        read_header(folder / "model.safetensors")
        with quiet():
            model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            # Pillow's resizing on every machine: torchvision's differs in the third digit.
            prepare = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except Exception as error:  # transformers raises whatever its readers raise
        raise EditkitError(f"CLIP: {folder} cannot be read ({error}); compare it with its own repository") from error
    return Clip(folder, model.eval(), tokenizer, prepare)
