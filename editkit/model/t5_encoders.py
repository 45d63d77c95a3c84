"""T5 encoders, as the pipelines run them."""

from __future__ import annotations

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.reader import Reader
from editkit.embeddings.states import padded_states
from editkit.model.components import read
from editkit.model.projections import fingerprint
from editkit.model.source import Source


def t5_encoder(source: Source, suffix: str, length: int) -> TextEncoder:
    """A T5 encoder that attends to its padding, in the dtype it is stored in: SD3, FLUX.1."""
    from transformers import T5EncoderModel, T5Tokenizer

    reader = Reader(read(source, T5Tokenizer, f"tokenizer{suffix}"))
    model = read(source, T5EncoderModel, f"text_encoder{suffix}", dtype="auto")
    mark = fingerprint((f"0.{name}", value) for name, value in model.state_dict().items())
    states = padded_states(reader, model, length)
    return TextEncoder(reader, states, int(model.config.d_model), length, mark, whole=True)
