"""`editkit edit`: change what a prompt means."""

from __future__ import annotations

from collections.abc import Sequence

from editkit.concepts.templates import TIME_AUGMENTATIONS, check_concepts, fill
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.edits.problem import Rows
from editkit.edits.time import align
from editkit.embeddings.encoder import TextEncoder
from editkit.erasure.make import Request, check_preserve, make_edit, words_of
from editkit.erasure.rows import Encoders
from editkit.erasure.words import check_known
from editkit.model.editable import ModelLike, open_model


def edit(
    model: ModelLike,
    source: str,
    destination: str,
    preserve: Sequence[str] = (),
    options: Method | None = None,
    augment: bool = False,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
    device: str | None = None,
) -> Edit:
    """Make `source` mean `destination`: "a red rose" → "a blue rose" (TIME, Orgad et al. 2023).

    Args:
        model: as `open_model` takes it, or what it returns.
        source: the prompt that changes.
        destination: the prompt whose meaning it takes.
        preserve: prompts that must stay as they are.
        options: how to solve it; default: `Options("time")`.
        augment: also edit the prompts after "A photo of", "An image of" and "A picture of".
        vocabulary: words to protect. Default: the words of the model's profile.
        checked: refuse an edit that blows up; else warn of it.
        device: as for `erase`.

    Raises:
        EditkitError: an impossible request, or an edit that would break the checkpoint.

    >>> made = edit("emoji", "a rose", "a tulip")
    >>> made.record["method"], made.record["guides"]
    ('time', ['a tulip'])
    """
    model, options = open_model(model, device=device), options or Options("time")
    check_concepts([source])
    check_known(model, [source, destination])
    check_preserve([source], preserve)
    words = words_of(model, options, [source], [destination], vocabulary)
    request = Request(model, options, [source], [destination], preserve, words, checked)
    with request.clock("embeddings"):
        templates = TIME_AUGMENTATIONS if augment else ("{}",)
        pairs = [(fill(template, source), fill(template, destination)) for template in templates]
        rows = [[aligned_rows(stream.encoders, *pair) for pair in pairs] for stream in model.streams]
    return make_edit(request, rows)


def aligned_rows(encoders: Encoders, source: str, destination: str) -> Rows:
    """All rows of `source` and the rows of `destination` they must become (TIME's alignment)."""
    return Rows.joined([_aligned_rows(encoder, source, destination) for encoder in encoders])


def _aligned_rows(encoder: TextEncoder, source: str, destination: str) -> Rows:
    before, after = encoder.encode([source, destination])
    if encoder.pooled:
        return Rows(before, after)
    at = align(encoder.tokens(source), encoder.tokens(destination), max(len(before), len(after)))
    return Rows(before, after[[min(place, len(after) - 1) for place in at[: len(before)]]])
