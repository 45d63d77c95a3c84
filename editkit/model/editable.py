"""What an edit needs of a model: its text encoder and its text projections, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.concepts.templates import TEMPLATES
from editkit.edit.gram import gram_matrix
from editkit.embeddings.encoder import TextEncoder
from editkit.errors import EditkitError
from editkit.model.projections import fingerprint, read_projections
from editkit.model.quiet import quiet
from editkit.model.source import Source, find, sha256


@dataclass(frozen=True)
class EditableModel:
    """A model as far as an edit reads it."""

    source: Source
    encoder: TextEncoder
    projections: Mapping[str, Tensor]

    @cached_property
    def gram(self) -> Tensor:
        """`G = Σ WᵀW`, `(d, d)` float64."""
        return gram_matrix(self.projections.values(), self.encoder.width)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(dict(self.projections))

    @property
    def templates(self) -> tuple[str, ...]:
        """Sentences that a protected edit is solved over."""
        if self.source.is_bundled:
            from editkit.emoji.catalogue import TEMPLATES as taught

            return taught
        return TEMPLATES

    @property
    def vocabulary_templates(self) -> tuple[str, ...]:
        """Sentences that the vocabulary is protected in. Elsewhere there are ten times as many words: two suffice."""
        return self.templates if self.source.is_bundled else self.templates[:2]


def open_model(model: str | os.PathLike[str] | Source | None = None) -> EditableModel:
    """Read a model's text encoder and projections. `model` is as for `editkit.model.source.find`."""
    source = model if isinstance(model, Source) else find(model)
    encoder = read_encoder(source)
    projections = read_projections(source)
    name, W = next(iter(projections.items()))
    if W.shape[1] != encoder.width:
        raise EditkitError(
            f"model {source.name}: {name} reads embeddings of width {W.shape[1]}, "
            f"but the text encoder gives {encoder.width}; only models with one CLIP text encoder can be edited"
        )
    return EditableModel(source, encoder, projections)


def read_encoder(source: Source) -> TextEncoder:
    """The CLIP text encoder of a diffusers folder, in float32 on the CPU."""
    from transformers import CLIPTextModel, CLIPTokenizer

    weights = source.weights("text_encoder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source.path / "tokenizer")
        with quiet():
            folder = source.path / "text_encoder"
            model = CLIPTextModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except Exception as error:  # transformers raises whatever its readers raise
        raise EditkitError(f"model {source.name}: its text encoder cannot be read ({error}); fetch it again") from error
    return TextEncoder(tokenizer, model.eval(), sha256(weights))
