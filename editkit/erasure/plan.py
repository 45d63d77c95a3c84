"""How much memory erasing will take, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.profile import ProfileOrFile
from editkit.concepts.templates import VOCABULARY_GUIDES, fill
from editkit.edits.method import Method, Options
from editkit.embeddings.encoder import TextEncoder
from editkit.erasure.concept_rows import ConceptRows
from editkit.erasure.guides import Ways
from editkit.erasure.make import looked_at_by
from editkit.erasure.miniature import Miniature
from editkit.erasure.rows import average_of, preserved_rows
from editkit.erasure.styles import protected_rows
from editkit.errors import EditkitError
from editkit.hardware import known_device
from editkit.model.checkpoints.source import find
from editkit.model.editable import EditableModel, Stream
from editkit.model.encoders.outline import encoder_memory
from editkit.model.memory import CUDA_ITSELF, GIB, is_gpu, told

FLOAT, DOUBLE = 4, 8


@dataclass(frozen=True)
class Part:
    """Bytes of one component of an erasure.

    Attributes:
        device: what it holds at its peak on the device; 0 where it stands on the processor.
        host: the same in the processor's memory, which pages of files count in.
        read: what is read from the disk, once.
        stays: whether it is there while the others are; else it is there alone.
    """

    name: str
    host: int
    device: int = 0
    read: int = 0
    stays: bool = False


@dataclass(frozen=True)
class ErasingPlan:
    """The planned peak of erasing.

    Attributes:
        device: where T5 and language models encode and all is solved; a GPU need not be there.
        concepts: how many are erased.
        parts: text encoders, the search for words of the same meaning, projections, rows, Gram, solve.
        itself: what a process takes on a GPU before its first tensor.
    """

    device: str
    concepts: int
    parts: tuple[Part, ...]
    itself: int

    @property
    def total(self) -> int:
        """Bytes at the peak on the device."""
        if not is_gpu(self.device):
            return self.host
        return self.itself + _peak([(part.device, part.stays) for part in self.parts])

    @property
    def host(self) -> int:
        """Bytes at the peak of the processor's memory, beside what Python and torch take themselves."""
        return _peak([(part.host, part.stays) for part in self.parts])

    @property
    def read(self) -> int:
        """Bytes that are read from the disk."""
        return sum(part.read for part in self.parts)

    def __str__(self) -> str:
        what = "1 concept" if self.concepts == 1 else f"{self.concepts:,} concepts"
        apart = is_gpu(self.device)
        head = f"planned peak on {self.device}, {what}: {self.total / GIB:.2f} GiB"
        head += f", in the processor's memory {self.host / GIB:.2f} GiB" if apart else ""
        head += f", read from disk {self.read / GIB:.2f} GiB"
        parts = {}
        for part in self.parts:
            device = f"device {part.device / GIB:6.2f}, " if apart else ""
            read = f", read {part.read / GIB:6.2f}" if part.read else ""
            parts[part.name] = f"{device}host {part.host / GIB:6.2f}{read}"
        return told(head, parts, self.itself)


def _peak(parts: Sequence[tuple[int, bool]]) -> int:
    """Of bytes, and whether they stay while the others are there."""
    return sum(size for size, stays in parts if stays) + max(size for size, stays in parts if not stays)


def plan_erasing(
    model: Any = None,
    device: str | None = None,
    concepts: Sequence[str] = (),
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    profile: ProfileOrFile | None = None,
) -> ErasingPlan:
    """The planned memory of `erase`, from configurations, tokenizers and the headers of weights; it needs some seconds.

    Encoders are run on tensors without values, the solve on a miniature. Words that turn out to mean the same as a
    concept, found prompts and captions are left out.

    Args:
        model: as `open_model` takes it.
        device: where T5 and language models make rows and all is solved: `cpu` or `cuda`, which need not be there;
            default: `cpu`.
        concepts: as `erase` takes them. How many rows there are depends on them, on `guides`, `preserve`, `options` and
            `vocabulary`.
        profile: what the model brings along, or a file that says it.

    Raises:
        EditkitError: its prompts cannot be encoded, it is a single file, or a configuration or a file is missing.

    >>> [part.name for part in plan_erasing("emoji").parts]
    ['text_encoder', 'same words', 'projections', 'rows', 'gram', 'solve']
    """
    source = model.source if isinstance(model, EditableModel) else find(model, profile=profile)
    if source.is_single_file:
        raise EditkitError(
            f"model {source.name}: expected a folder with the configuration of each component, this is a single file; "
            "give a diffusers folder of it"
        )
    known, options, device, concepts = EditableModel(source), options or Options(), device or "cpu", concepts or ("a",)
    known_device(device)
    words = list(vocabulary) if vocabulary is not None else known.own_words()
    asked = [guide for guide in guides if guide not in VOCABULARY_GUIDES]
    ways = Ways.of(known, concepts, words, options)
    named = [average_of(words) if options.is_protected and not asked else (asked or [options.guide])[0]] * len(concepts)
    pairs = list(zip(concepts, named, strict=True))
    counted = [_count(known, stream, pairs, ways, words, preserve, options) for stream in known.streams]
    small = [Miniature(stream) for stream in known.streams]
    first = _narrow(known.streams[0].encoders[0], small[0].width)
    solved = [each.solving(options, *rows) for each, rows in zip(small, counted, strict=True)]
    projections = [W.nbytes for W in known.projections.values()]
    summed, searched = max(each.summing() for each in small), small[0].searching(first, words, concepts)
    made = (
        *([Part("same words", searched)] if options.is_protected else []),
        Part("projections", summed, read=sum(projections)),
        Part("rows", sum(map(_bytes_of, known.streams, counted)), stays=True),
        Part("gram", sum(2 * DOUBLE * stream.width**2 for stream in known.streams), stays=True),
        Part("solve", max(solved)),
    )
    if is_gpu(device):  # one projection is read at a time
        made = tuple(replace(part, device=part.host, host=max(projections) if part.read else 0) for part in made)
    parts = (*_encoders(known, device, looked_at_by(known, options, words)), *made)
    return ErasingPlan(device, len(concepts), parts, CUDA_ITSELF if is_gpu(device) else 0)


Counts = tuple[Sequence[int], Sequence[int], int]
"""How many rows each concept has, how many each protected word, and how many are preserved."""


def _bytes_of(stream: Stream, counts: Counts) -> int:
    """Words lie as they were encoded and one after another, concepts with their targets."""
    rows, words, preserved = counts
    return stream.width * (FLOAT * 2 * sum(words) + (FLOAT + DOUBLE) * sum(rows) + DOUBLE * preserved)


def _count(
    model: EditableModel,
    stream: Stream,
    pairs: Sequence[tuple[str, str | Sequence[str]]],
    ways: Ways,
    words: Sequence[str],
    preserve: Sequence[str],
    options: Method,
) -> Counts:
    encoders = tuple(_narrow(encoder, 1) for encoder in stream.encoders)
    concepts = [concept for concept, _ in pairs]
    held = protected_rows(model.profile, encoders, looked_at_by(model, options, words), concepts)
    rows = [ConceptRows(encoders, ways.templates(pair[0]), options.tokens).of(*pair) for pair in pairs]
    kept = preserved_rows(encoders, preserve, options.tokens)
    lengths = [len(each.source) for each in rows]
    return lengths, list(map(len, held.rows)), 0 if kept is None else len(kept)


def _narrow(encoder: TextEncoder, width: int) -> TextEncoder:
    """As many rows as it gives, of `width` random numbers."""
    made = torch.Generator().manual_seed(0)

    def states(prompts: Sequence[str], sizes: Sequence[int], coarse: bool) -> Tensor:
        return torch.randn(sum(sizes), width, generator=made)

    return replace(encoder, states=states, mark="")


def _encoders(model: EditableModel, device: str, words: Sequence[str]) -> Iterator[Part]:
    encoders = [encoder for stream in model.streams for encoder in stream.encoders]
    on_gpu = is_gpu(device)
    for each in encoder_memory(model.source, encoders, [fill("a {}", word) for word in words], on_gpu):
        if on_gpu and each.moves:  # its file lies in the processor's memory meanwhile
            yield Part(each.name, each.weights, each.weights + each.activations, each.weights)
        else:
            yield Part(each.name, each.held + each.activations, 0, each.weights)
