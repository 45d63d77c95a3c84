"""Names of the tensors of a pipeline's text encoders, beside those of its denoiser, which have none of these."""

from __future__ import annotations

from collections.abc import Iterable

MARK = "/"
PREFIX = "text_model."
"""Before the tensors of a CLIP text encoder in older files; transformers saves them without it."""


def encoder_weight(component: str, name: str) -> str:
    """What the tensor `name` of a text encoder is called in an edit.

    >>> encoder_weight("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1.bias")
    'text_encoder_2/encoder.layers.0.mlp.fc1.bias'
    """
    return f"{component}{MARK}{name.removeprefix(PREFIX)}"


def encoders_of(names: Iterable[str] | None) -> list[str]:
    """The text encoders that some of these tensors are of.

    >>> encoders_of(["conv_in.weight", "text_encoder/encoder.layers.0.mlp.fc1.bias"])
    ['text_encoder']
    """
    return sorted({name.partition(MARK)[0] for name in names or () if MARK in name})
