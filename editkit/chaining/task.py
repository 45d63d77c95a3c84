"""One stage of a recipe as it is run: what it says, of which model, and where it puts what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.concepts.profile_file import SAMPLING
from editkit.model.editable import EditableModel

VOCABULARY = "vocabulary"
INVERSION = ".ti.safetensors"
"""How the name of a textual inversion ends."""


@dataclass(frozen=True)
class Task:
    """A stage, and everything that its function is called with.

    Attributes:
        name: of the stage; of one of its variants, where it has several.
        model: not read before it is asked for.
        words: parameters of the function, by name.
        options: of the components that it takes.
        inputs: parameter → variants by the names that commands take: `base`, files, folders.
        place: its folder, where everything of it goes.
        device: such as `cuda`; None: a GPU if there is one.
    """

    name: str
    model: EditableModel
    words: Mapping[str, Any]
    options: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]]
    place: Path
    device: str | None = None

    @property
    def edit(self) -> Path:
        """The edit file that it makes, named after it, so that reports call it so."""
        return self.place / f"{self.name}.safetensors"

    @property
    def inversion(self) -> Path:
        """The textual inversion that it makes."""
        return self.place / f"{self.name}{INVERSION}"

    @property
    def folder(self) -> Path:
        """The folder that it makes."""
        return self.place / self.name

    @property
    def named(self) -> dict[str, Any]:
        """The model and its profile, for a function that opens them itself."""
        source = self.model.source
        return {"model": source.name, "profile": source.profile}

    def input(self, field: str) -> str:
        """The one variant of that parameter."""
        (only,) = self.inputs[field]
        return only

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of drawing."""
        return {name: value for name, value in self.words.items() if name in SAMPLING}

    @property
    def read(self) -> dict[str, Any]:
        """`words`, with the vocabulary of a file read."""
        from editkit.erasure.words import read_vocabulary

        said = dict(self.words)
        if isinstance(said.get(VOCABULARY), str):
            said[VOCABULARY] = read_vocabulary(self.model, said[VOCABULARY])
        return said
