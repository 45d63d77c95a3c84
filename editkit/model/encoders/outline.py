"""Text encoders without their weights: what they hold while prompts are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from editkit.embeddings.clip_text import PROJECTION, ClipText, pack
from editkit.embeddings.encoder import MANY, TextEncoder
from editkit.embeddings.reader import Reader
from editkit.embeddings.states import AT_A_TIME
from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.checkpoints.components import stated_class
from editkit.model.checkpoints.projections import stored_component
from editkit.model.checkpoints.source import Source
from editkit.model.memory import peak_of


@dataclass(frozen=True)
class EncoderMemory:
    """Bytes of one text encoder.

    Attributes:
        name: the component.
        weights: of all of it, as they are stored.
        held: of its weights that are in memory at once: of CLIP none but a layer's, which are among the activations.
        activations: all else at its peak.
        moves: whether it stands on the device that is asked for.
    """

    name: str
    weights: int
    held: int
    activations: int
    moves: bool


def encoder_memory(
    source: Source, encoders: Sequence[TextEncoder], prompts: Sequence[str], on_gpu: bool
) -> list[EncoderMemory]:
    """Of each text encoder of a folder, from configurations, tokenizers and headers.

    Args:
        encoders: of all streams.
        prompts: the longest list that is encoded at once.
        on_gpu: whether those that move stand on a GPU.

    Raises:
        EditkitError: one reads values of its tensors while it runs.
    """
    names = [name for name in source.components if name.startswith("text_encoder") and (source.path / name).is_dir()]
    return [_memory_of(source, name, encoders, prompts, on_gpu) for name in names]


def _memory_of(
    source: Source, name: str, encoders: Sequence[TextEncoder], prompts: Sequence[str], on_gpu: bool
) -> EncoderMemory:
    is_clip = source.components[name][1].startswith("CLIP")
    stored = stored_component(source, name)
    weights = sum(W.nbytes for W in stored.values())
    coarse = len(prompts) >= MANY and any(encoder.is_fast_coarse for encoder in encoders)
    if is_clip:
        reader = next(each for some in encoders for each in (some.reader, *some.beside) if each.positions is not None)
        shapes = {each: partial(torch.empty, W.shape, dtype=W.dtype) for each, W in stored.items()}
        run = _clip_pass(ClipText.of(source.config(name), Lazy(shapes), PROJECTION in stored), reader, prompts, coarse)
    else:
        encoder = next(each for each in encoders if each.reader.positions is None)
        dtype = next(W.dtype for W in stored.values() if W.ndim > 1)
        run = _pass(source, name, encoder, prompts, dtype, coarse and not on_gpu)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            activations = run()
    except DataDependentOutputException as error:
        raise EditkitError(
            f"--plan: the {name} of {source.family.title} reads values of its tensors, and so cannot be planned for "
            "without them; erase one concept and look"
        ) from error
    return EncoderMemory(name, weights, 0 if is_clip else weights, activations, not is_clip)


def _clip_pass(model: ClipText, reader: Reader, prompts: Sequence[str], coarse: bool) -> Callable[[], int]:
    """Two layers: the weights of one are made while those of the last are there."""
    packs, short = pack([reader.ids(prompt) for prompt in prompts]), replace(model, layers=min(2, model.layers))

    def rows() -> None:
        short.packed_rows(packs, coarse=coarse)

    return lambda: peak_of(rows)


def _pass(
    source: Source, name: str, encoder: TextEncoder, prompts: Sequence[str], dtype: torch.dtype, coarse: bool
) -> Callable[[], int]:
    """As many prompts as are run at a time."""
    kind = stated_class(source, name)
    config = kind.config_class.from_dict(source.config(name))
    length = encoder.length if encoder.whole else max(len(encoder.reader.ids(prompt)) for prompt in prompts)
    count = min(len(prompts), max(1, AT_A_TIME // length))
    how: dict[str, Any] = {} if encoder.whole else {"attention_mask": torch.ones(count, length, dtype=torch.long)}

    def planned() -> int:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = kind(config).eval()
        finally:
            torch.set_default_dtype(before)

        def rows() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
                model(torch.zeros(count, length, dtype=torch.long), **how)[0].float()

        return peak_of(rows)

    return planned
