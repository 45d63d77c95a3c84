"""What an edit needs of a model: its text encoders and its text projections, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from editkit.concepts.profile import Profile, ProfileOrFile
from editkit.edits.edit import EVERYWHERE, Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix, square_root
from editkit.edits.variant import Variant
from editkit.embeddings.encoder import TextEncoder
from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.hardware import check_device, solving_device
from editkit.model.checkpoints.projections import fingerprint, read_named, read_projections
from editkit.model.checkpoints.source import Source, find
from editkit.model.families.family import Rule, rule_for
from editkit.model.families.support import LEARNED

VALUES = r".*\b(?:to_v|v_proj)\.weight"
"""Names of the projections that make values."""


@dataclass(frozen=True)
class Stream:
    """One kind of text embedding that a denoiser reads, the encoders it comes from, and what reads it.

    One edit map serves a stream. SD 1.x and 2.x have one stream; SDXL, SD3 and FLUX.1 have token rows and a pooled
    vector.

    Attributes:
        rule: the family's rule that names the projections.
        encoders: their rows follow each other in the sequence.
        inputs: tensor name → `W` `(o, width)`: the columns that read the text. `add_embedding.linear_1` of SDXL has
            others after them, which read picture sizes.
        reads: columns of the whole weight.
        only: regular expression of the names that `group` is limited to.
    """

    rule: Rule
    encoders: tuple[TextEncoder, ...]
    inputs: Mapping[str, Tensor]
    reads: int
    only: str = ""

    @property
    def width(self) -> int:
        return self.encoders[0].width

    @property
    def group(self) -> str:
        """Regular expression of the names of its projections."""
        return rf"{self.only}(?:{self.rule.modules})\.weight"

    @property
    def values(self) -> Stream:
        """The same, of its value projections alone; it has no inputs where it has none."""
        kept = Lazy.of(self.inputs, {name: name for name in self.inputs if re.fullmatch(VALUES, name)})
        return replace(self, inputs=kept, only=f"(?={VALUES})")

    @cached_property
    def gram(self) -> Tensor:
        """`G = Σ WᵀW`, `(width, width)` float64."""
        return gram_matrix(self.inputs.values(), self.width)

    @cached_property
    def root(self) -> Tensor:
        """`√G`, `(width, width)` float64."""
        return square_root(self.gram)

    def whole(self, edit: EditMap) -> EditMap:
        """`edit` for the whole weights: the columns that read no text stay as they are."""
        return edit.widened(self.reads)


@dataclass(frozen=True)
class EditableModel:
    """A model as far as an edit reads it. Everything is read when it is first asked for.

    Attributes:
        device: where the streams' projections and rows lie, where edits are solved, and where text encoders of
            transformers, T5 and language models, run. CLIP does on the processor.
    """

    source: Source
    device: str = "cpu"

    @cached_property
    def projections(self) -> Mapping[str, Tensor]:
        """Tensor name → `W` `(o, d)`, of all streams, in the checkpoint's dtype; each read when it is looked at."""
        return read_projections(self.source)

    def tensors(self, edit: Variant) -> Mapping[str, Tensor]:
        """The tensors that `edit` can change: the projections, or what was tuned."""
        return self.projections if edit.names is None else read_named(self.source, edit.names)

    @cached_property
    def encoders(self) -> Mapping[str, tuple[TextEncoder, ...]]:
        """Stream → encoders."""
        from editkit.model.encoders.streams import read_streams

        streams = read_streams(self.source)
        for encoder in (each for some in streams.values() for each in some):
            encoder.move(self.device)
        return streams

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """Token rows first.

        Raises:
            EditkitError: projections and encoders do not fit each other.
        """
        return tuple(self._stream(rule) for rule in self.source.family.rules if rule.stream in self.encoders)

    def _stream(self, rule: Rule) -> Stream:
        encoders = self.encoders[rule.stream]
        width = encoders[0].width
        mine = {name: name for name in self.projections if rule_for(self.source.family, name) == rule}
        weights = Lazy.of(self.projections, mine)
        if not weights:
            raise EditkitError(f"model {self.source.name}: expected projections {rule.label}, found none")
        name, W = next(iter(weights.items()))
        if W.shape[1] < width or (W.shape[1] > width and not rule.leading):
            raise EditkitError(
                f"model {self.source.name}: {name} reads embeddings of width {W.shape[1]}, but its text encoder gives "
                f"{width}; do the two belong together?"
            )
        if self.device != "cpu":
            encoders = tuple(replace(encoder, device=self.device) for encoder in encoders)
        return Stream(rule, encoders, weights.through(lambda W: W[:, :width].to(self.device)), W.shape[1])

    @property
    def encoder(self) -> TextEncoder:
        """The first encoder of the token rows: it says which words are near each other."""
        return self.streams[0].encoders[0]

    @property
    def gram(self) -> Tensor:
        return self.streams[0].gram

    def free_encoders(self) -> None:
        """Let go the weights of text encoders that lie in memory: for more prompts they are read again."""
        _ = self.text_encoder_sha256  # which is made of them
        for stream in self.streams:
            for encoder in stream.encoders:
                encoder.free()

    def key(self, stream: Stream) -> str:
        """What an edit calls the projections of `stream`."""
        return EVERYWHERE if len(self.streams) == 1 and not stream.only else stream.group

    def map_of(self, variant: Variant | None, stream: Stream) -> EditMap | None:
        """The map of the rows of `stream`, where the variant is an edit that has one; else None."""
        edit_map = variant.maps.get(self.key(stream)) if isinstance(variant, Edit) else None
        return None if edit_map is None else edit_map.narrowed(stream.width)

    @cached_property
    def projections_sha256(self) -> str:
        return fingerprint(self.projections)

    @cached_property
    def text_encoder_sha256(self) -> str:
        marks = [encoder.fingerprint for stream in self.streams for encoder in stream.encoders]
        return hashlib.sha256("\n".join(marks).encode()).hexdigest()

    @property
    def profile(self) -> Profile:
        """What the model brings along."""
        return self.source.profile

    def on(self, device: str | None) -> EditableModel:
        """The same model, to solve for on `device`: on the processor where that has no float64. None: where it is.

        Raises:
            EditkitError: there is no such device.

        >>> open_model("emoji").on("mps").device
        'cpu'
        """
        where = self.device if device is None else str(solving_device(device))
        if where == self.device:
            return self
        check_device(where)
        moved = EditableModel(self.source, where)
        read = {name: self.__dict__[name] for name in ("projections", "encoders") if name in self.__dict__}
        moved.__dict__.update(read)  # as `cached_property` keeps them
        for encoder in (each for some in read.get("encoders", {}).values() for each in some):
            encoder.move(where)
        return moved

    def fresh(self) -> EditableModel:
        """The same model as if no prompt had been encoded yet. The last bits of a row depend on the prompts that it was
        encoded with: what must be the same bit for bit begins here."""
        again = EditableModel(self.source, self.device)
        for stream in self.streams:
            for encoder in stream.encoders:
                encoder.forget()
        streams = tuple(
            replace(stream, encoders=tuple(replace(encoder) for encoder in stream.encoders)) for stream in self.streams
        )
        again.__dict__.update(projections=self.projections, streams=streams)  # as `cached_property` keeps them
        return again

    def knowing(self, learned: Mapping[str, tuple[Tensor, ...]]) -> EditableModel:
        """The same model with tokens that were learned from pictures.

        Args:
            learned: token → vectors of each CLIP text encoder, see `editkit.embeddings.learned`.

        Raises:
            EditkitError: its prompts are not read by CLIP alone.
        """
        check_learnable(self.source)
        more = EditableModel(replace(self.source, learned=learned))
        more.__dict__["projections"] = self.projections
        return more

    def own_words(self) -> list[str]:
        """The vocabulary that is meant where none is given."""
        return self.profile.own_words(self.profile.words is None and self.encoder.slow)


def check_learnable(source: Source) -> None:
    """Refuse a model whose prompts are not read by CLIP alone, before any weight is read.

    Raises:
        EditkitError: naming its family.
    """
    if source.family.name not in LEARNED:
        raise EditkitError(
            f"model {source.name}: is {source.family.title}, and tokens are learned for text encoders of CLIP alone "
            "(Stable Diffusion 1.x, 2.x and XL, and the bundled model); erase by words with --concept"
        )


ModelLike = EditableModel | Source | str | os.PathLike[str] | None
"""A model as users name it, or one that is open already."""


def open_model(
    model: ModelLike = None,
    tokenizer: Path | None = None,
    profile: ProfileOrFile | None = None,
    device: str | None = None,
) -> EditableModel:
    """A model to edit. None of its weights is read before it is asked for.

    Args:
        model: `emoji` (the bundled one), a diffusers folder, a `.safetensors` checkpoint or a hub id; None is
            `$EDITKIT_MODEL`, else the bundled model. One that is open stays as it is.
        tokenizer: folder of the tokenizer, for a single file whose tokenizer is not CLIP's.
        profile: what the model brings along, or a TOML file that says it.
        device: where edits are solved, and T5 and language models encode: `cpu`, `cuda`, ...; default: where an open
            model is, else `cpu`.

    Raises:
        EditkitError: there is no such model, it is a pickle, or there is no such device.

    >>> open_model("emoji").encoder.width
    512
    """
    if isinstance(model, EditableModel):
        if tokenizer is None and profile is None:
            return model.on(device)
        device = device or model.device
        model = model.source
    return EditableModel(find(model, tokenizer, profile)).on(device)
