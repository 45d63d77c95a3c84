"""Prompts that show what an edit does: the concepts, their neighbours, and strangers."""

from __future__ import annotations

from collections.abc import Sequence

from editkit.concepts.templates import fill
from editkit.erasure.near import closeness
from editkit.erasure.words import words_to_protect
from editkit.model.editable import EditableModel

MOST_CONCEPTS, NEAR, FAR = 4, 4, 3


def prompts_about(model: EditableModel, concepts: Sequence[str]) -> list[str]:
    """ "a X" for the concepts, for the words nearest to them, which an edit hurts first, and for a few of the rest."""
    words = words_to_protect(model, concepts, ())
    examples = model.profile.examples
    if examples is not None:
        words = [word for word in words if word in examples]
    near: list[str] = []
    if words:
        alike = closeness(model.encoder, words, concepts, model.gram).max(dim=1).values
        near = [words[n] for n in alike.argsort(descending=True)[:NEAR].tolist()]
    rest = [word for word in words if word not in near]
    far = rest[len(rest) // (2 * FAR) :: max(1, len(rest) // FAR)][:FAR]
    return [fill("a {}", word) for word in (*concepts[:MOST_CONCEPTS], *near, *far)]
