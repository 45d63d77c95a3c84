"""`editkit gate`: put an edit behind a gate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from torch import Tensor

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.pipelines import check_drawable
from editkit.edits.edit import Edit
from editkit.edits.variant import TextStream
from editkit.embeddings.encoder import TextEncoder
from editkit.errors import EditkitError
from editkit.gating.calibrate import calibrate
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.model.families.family import Family
from editkit.model.families.table import by_name
from editkit.variants.edit_file import load_linear
from editkit.variants.fit import check_fit
from editkit.variants.record import file_sha256

COUNT = 3600
"""Captions that a profile is asked for: about 1,200 for each part."""


def gated(
    model: ModelLike,
    edit: Edit | os.PathLike[str] | str,
    captions: Sequence[str] | None = None,
    eps: float = 0.01,
    seed: int = 0,
    profile: ProfileOrFile | None = None,
) -> Edit:
    """Put an edit behind a gate: it acts on prompts that ask for what is erased, all others are drawn as unedited.

    Of neutral prompts, such as `captions`, it opens for a share of `eps` at most, with 95 % confidence: see
    `editkit.edits.gate.threshold`. Nothing else was made from the captions that the threshold is from.

    Args:
        model: as `open_model` takes it: one that editkit draws with.
        edit: an edit or its file, with one map for each kind of text embedding.
        captions: neutral ones, in any order; what names something erased is left out. Default: the profile's.
        eps: the share of neutral prompts that may be edited.
        seed: of the order of the captions.
        profile: what the model brings along, or a file that says it.

    Returns:
        The edit with its gate, as `generate`, `compare`, `evaluate` and `attack` take it once it is saved; its record
        holds the figures (`gate`).

    Raises:
        EditkitError: the edit does not fit the model or has several maps, or the captions are missing or too few.

    >>> import editkit, warnings
    >>> warnings.simplefilter("ignore")
    >>> words = editkit.models()[0]["concepts"]
    >>> captions = [f"{word} on a {colour} background" for word in words for colour in ("red", "blue")]
    >>> behind = gated("emoji", editkit.erase("emoji", ["church"]), captions, eps=0.05)
    >>> behind.gate.eps, behind.record["gate"]["opened"]["value"] > 0.8
    (0.05, True)
    """
    opened = open_model(model, profile=profile)
    check_gateable(opened.source.family, f"model {opened.source.name}")
    check_drawable(opened.source)
    read = edit if isinstance(edit, Edit) else load_linear(os.fspath(edit))
    check_fit(read, opened)
    check_one_map(
        read, {stream.rule.stream: TextStream(tuple(stream.inputs), stream.width) for stream in opened.streams}
    )
    texts = _own_captions(opened, seed) if captions is None else captions
    made = calibrate(read, ForgetfulEncoder(opened.encoder), texts, eps, opened.profile, seed)
    if isinstance(edit, Edit):
        return made
    told = {**made.record["gate"], "edit_sha256": file_sha256(edit)}
    return replace(made, record={**made.record, "gate": told})


GATED = ("sd1", "sd2", "sdxl")
"""Families whose prompts are rows of CLIP in one sequence, as a gate reads them."""


def check_gateable(family: Family, what: str) -> None:
    """Refuse a model whose prompts a gate does not read.

    Raises:
        EditkitError: it is of another family.
    """
    if family.name not in GATED:
        known = ", ".join(by_name(name).title for name in GATED)
        raise EditkitError(f"{what}: is {family.title}; a gate reads the prompts of {known}; draw without --gate")


def check_one_map(edit: Edit, streams: dict[str, TextStream]) -> None:
    """Refuse an edit that is more than one map for each kind of text embedding.

    Raises:
        EditkitError: it cannot act on a prompt's rows.
    """
    maps = edit.stream_maps(streams)
    if maps is None or not maps:
        raise EditkitError(
            "a gate needs an edit with one map for each kind of text embedding, this one has a map of its own for each "
            "layer; make it without --technique tensor, and not with --method oce"
        )


def _own_captions(model: EditableModel, seed: int) -> list[str]:
    place = model.profile.captions
    if not place:
        raise EditkitError(
            f"model {model.source.name}: brings no neutral captions along; give --captions FILE, one a line, best "
            "3,000 or more of the kind that your users type"
        )
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)(COUNT, seed)


@dataclass(frozen=True)
class ForgetfulEncoder:
    """An encoder that forgets: the rows of thousands of whole prompts would fill the memory."""

    encoder: TextEncoder

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        return [rows.double() for rows in self.encoder.encode_once(prompts, self.encoder.length)]

    def reads(self, prompt: str) -> bool:
        return self.encoder.fits(prompt)

    def subject_at(self, template: str, words: str) -> int:
        return self.encoder.subject_at(template, words)
