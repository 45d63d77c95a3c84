"""CLIP's text transformer over a batch of equally long sequences, with gradients: what searches for prompts run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editkit.embeddings.clip_text import ClipText


@dataclass(frozen=True)
class DenseClip:
    """The same rows as `ClipText.rows` gives (tested), of `(batch, length)` tokens or of their embeddings.

    Attributes:
        model: the weights.
        layer: as in `ClipText.rows`.
        kind: the dtype that is multiplied in.
        layers: the weights of each layer in that dtype.
    """

    model: ClipText
    layer: int | None
    kind: torch.dtype
    layers: tuple[Mapping[str, Tensor], ...]

    @classmethod
    def of(cls, model: ClipText, layer: int | None = None, kind: torch.dtype = torch.float32) -> DenseClip:
        count = model.layers if layer is None else range(model.layers + 1)[layer]
        return cls(model, layer, kind, tuple(model.layer_weights(n, kind) for n in range(count)))

    def to(self, device: str | torch.device) -> DenseClip:
        """The same model there; itself where it is there."""
        if self.model.tensors["embeddings.token_embedding.weight"].device == torch.device(device):
            return self
        tensors = {name: weight.to(device) for name, weight in self.model.tensors.items()}
        return DenseClip.of(replace(self.model, tensors=tensors), self.layer, self.kind)

    @property
    def table(self) -> Tensor:
        """The embedding of every token, `(vocabulary, width)` float32."""
        return self.model.tensors["embeddings.token_embedding.weight"].float()

    def rows(self, ids: Tensor) -> Tensor:
        """`(batch, length)` ids → `(batch, length, width)` float32, without gradients."""
        with torch.no_grad():
            return self.rows_of(self.table[ids])

    def rows_of(self, embedded: Tensor) -> Tensor:
        """`(batch, length, width)` token embeddings → rows, differentiable."""
        places = self.model.tensors["embeddings.position_embedding.weight"].float()
        rows = embedded + places[: embedded.shape[1]]
        for weights in self.layers:
            rows = rows + self.model.attend(rows, None, weights)
            rows = rows + self.model.transform(rows, weights)
        return rows if self.layer is not None else self.model.final_norm(rows)
