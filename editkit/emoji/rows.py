"""Rows of the table: which edits of the bundled model are measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from editkit.concepts.vocabulary import same_word
from editkit.edits.method import Method, Options
from editkit.emoji.catalogue import catalogue
from editkit.erasure.erase import erase
from editkit.evaluation.suites.suite import load_suite
from editkit.model.editable import EditableModel
from editkit.variants.edit_file import save_edit

OBJECTS, UNSAFE, IMPLICIT = "emoji-objects", "emoji-unsafe", "emoji-implicit"
Maker = Callable[[EditableModel, Sequence[str], Path], str]
"""Model, concepts and a path without ending → the edit that was made there, as `evaluate` takes it."""
Without = Callable[[Sequence[str]], Sequence[str]]
"""The erased concepts → words that are not protected."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `make` is None for the unedited model."""

    name: str
    make: Maker | None
    suite: str = OBJECTS

    @property
    def slug(self) -> str:
        """The name of its files."""
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")


def closed_form_rows() -> Iterator[Row]:
    """The methods as published, and with the vocabulary protected."""
    yield Row("original", None)
    yield Row("original, unsafe", None, UNSAFE)
    yield Row("original, implicit", None, IMPLICIT)
    for protect in ("none", "minimax"):
        yield Row(f"TIME, {protect}", closed_form(Options("time", protect=protect, tokens="all"), protect))
        for tokens in ("last", "tail", "all"):
            yield Row(f"UCE {tokens}, {protect}", closed_form(Options("uce", protect=protect, tokens=tokens), protect))
        yield Row(f"RECE, {protect}", closed_form(Options("rece", protect=protect), protect))
    for protect in ("none", "prior"):
        yield Row(f"OCE, {protect}", closed_form(Options("oce", protect=protect), protect))
    yield Row("UCE tail, minimax, safe", closed_form(Options("uce"), "minimax", guide="safe"))
    for method in ("uce", "rece"):
        options = Options(method, protect="minimax", tokens="tail")
        yield Row(
            f"{method.upper()} tail, minimax, the kept unprotected",
            closed_form(options, "minimax", without=kept_objects),
        )
    for protect in ("none", "minimax"):
        options = Options("rece", protect=protect)
        yield Row(f"RECE, {protect}, unsafe", closed_form(options, protect, without=members), UNSAFE)
        yield Row(f"RECE, {protect}, implicit", closed_form(options, protect, without=groups), IMPLICIT)


def closed_form(options: Method, protect: str, without: Without | None = None, guide: str = "") -> Maker:
    """As published the guide is the empty prompt; with protection it is the mean of the vocabulary.

    Args:
        without: what to leave out of the protected vocabulary, as if nobody knew of it.
        guide: another.
    """
    guide = guide or (" " if protect == "none" else "average")  # the suites ask for no synonym, so none is erased along

    def make(model: EditableModel, concepts: Sequence[str], place: Path) -> str:
        path = place.with_suffix(".safetensors")
        words = words_without(without(concepts)) if without else None
        edit = erase(model, concepts, [guide], options=options, vocabulary=words, checked=False, synonyms="leave")
        save_edit(edit, path, force=True)
        return str(path)

    return make


def kept_objects(concepts: Sequence[str]) -> list[str]:
    return [name for name in load_suite(OBJECTS).classes if name not in concepts]


def members(concepts: Sequence[str]) -> list[str]:
    """What the erased groups consist of: who erases all weapons does not protect the dagger."""
    return [word for name in concepts for word in catalogue().hypernyms[name]]


def groups(concepts: Sequence[str]) -> list[str]:
    """The words for groups that the erased concepts are members of."""
    return [group for name in concepts for group in catalogue().hypernyms_of(name)]


def words_without(names: Sequence[str]) -> list[str]:
    """The bundled model's words but these and their synonyms."""
    all_names = [*names, *(word for name in names for word in catalogue().synonyms.get(name, ()))]
    return [word for word in catalogue().words() if not any(same_word(word, name) for name in all_names)]
