"""T5 encoders, as the pipelines run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.reader import Reader, as_it_is
from editkit.embeddings.states import masked_states, padded_states
from editkit.model.checkpoints.components import read, stated_class
from editkit.model.checkpoints.projections import fingerprint
from editkit.model.checkpoints.source import Source
from editkit.model.prompts import reader_of


def t5_encoder(source: Source, suffix: str, length: int) -> TextEncoder:
    """A T5 encoder that attends to its padding, in the dtype it is stored in: SD3, FLUX.1."""
    reader, model, width, mark = _t5(source, suffix)
    return TextEncoder(reader, padded_states(reader, model, length), width, length, mark, whole=True)


def masked_t5_encoder(
    source: Source, length: int, padding: int = 0, clean: Callable[[str], str] = as_it_is, blank: bool = False
) -> TextEncoder:
    """A T5 encoder with a mask on its padding, of which the denoiser reads `padding` rows. `blank`: they are zero."""
    reader, model, width, mark = _t5(source, "")
    reader.clean = clean
    states = masked_states(reader, model, blank=blank)
    return TextEncoder(reader, states, width, length, f"{mark}-masked", padding=padding)


def _t5(source: Source, suffix: str) -> tuple[Reader, Any, int, str]:
    reader = reader_of(source, read(source, stated_class(source, f"tokenizer{suffix}"), f"tokenizer{suffix}"))
    model = read(source, stated_class(source, f"text_encoder{suffix}"), f"text_encoder{suffix}", dtype="auto")
    mark = fingerprint((f"0.{name}", value) for name, value in model.state_dict().items())
    return reader, model, int(model.config.d_model), mark
