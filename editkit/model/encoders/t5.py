"""T5 encoders, as the pipelines run them."""

from __future__ import annotations

from collections.abc import Callable

from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.reader import Reader, as_it_is
from editkit.embeddings.states import Loaded, masked_states, padded_states
from editkit.model.checkpoints.components import read, stated_class
from editkit.model.checkpoints.projections import fingerprint, stored_component
from editkit.model.checkpoints.source import Source
from editkit.model.prompts import reader_of


def t5_encoder(source: Source, suffix: str, length: int) -> TextEncoder:
    """A T5 encoder that attends to its padding, in the dtype it is stored in: SD3, FLUX.1."""
    reader, loaded, width, mark = _t5(source, suffix)
    states = padded_states(reader, loaded, length)
    return TextEncoder(reader, states, width, length, mark, whole=True, free=loaded.free, move=loaded.move)


def masked_t5_encoder(
    source: Source, length: int, padding: int = 0, clean: Callable[[str], str] = as_it_is, blank: bool = False
) -> TextEncoder:
    """A T5 encoder with a mask on its padding, of which the denoiser reads `padding` rows. `blank`: they are zero."""
    reader, loaded, width, mark = _t5(source, "")
    reader.clean = clean
    states = masked_states(reader, loaded, blank=blank)
    return TextEncoder(
        reader, states, width, length, lambda: f"{mark()}-masked", padding=padding, free=loaded.free, move=loaded.move
    )


def _t5(source: Source, suffix: str) -> tuple[Reader, Loaded, int, Callable[[], str]]:
    reader = reader_of(source, read(source, stated_class(source, f"tokenizer{suffix}"), f"tokenizer{suffix}"))
    component = f"text_encoder{suffix}"
    kind = stated_class(source, component)
    loaded = Loaded(lambda: read(source, kind, component, dtype="auto"))
    stored_component(source, component)  # what is missing or quantised is refused now
    return reader, loaded, int(source.config(component)["d_model"]), lambda: mark_of(loaded)


def mark_of(loaded: Loaded) -> str:
    """The fingerprint of a model's weights."""
    return fingerprint({f"0.{name}": value.cpu() for name, value in loaded.model.state_dict().items()})
