"""A preset as a TOML file: `--preset NAME`, one that editkit has, or `--preset FILE.toml`.

    about     one sentence
    source    where words and numbers are from
    paper     whose they are
    concept   what is erased: a list, or the path of a file as --concepts-file reads it
    synonym   more words that are erased with it
    synonyms  erase or leave
    method    the method that is taken where the user names none
    [methods.NAME]  of one method: its options by their names in Python, `guide` and `preserve` (lists)
    [moderate]      strength
    [harden]        goal, rounds, most_damage, per_round, pictures, below, searches, weight, give_up, seed

Paths are relative to the file. What it leaves out has the default. `name` is what records call it, by default the
file's name. Example:

>>> from pathlib import Path
>>> preset = parse_preset('''
... about = "Herons, as the guide to the birds draws them."
... concept = ["heron"]
... method = "uce"
...
... [methods.uce]
... guide = ["bird"]
... protect = "none"
... lamb = 0.3
... ''', Path("birds.toml"))
>>> preset.name, preset.options().lamb, preset.of(preset.options()).guide
('birds', 0.3, ('bird',))
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editkit.concepts.concept_file import read_concept_file
from editkit.concepts.templates import check_concepts
from editkit.edits.method import Options
from editkit.erasure.make import check_preserve
from editkit.erasure.presets.preset import MethodPreset, Preset
from editkit.erasure.synonyms import how_of
from editkit.errors import EditkitError
from editkit.files.text.toml import TomlReader, file_of, parse_toml, read_text, shipped_names
from editkit.options import options_of
from editkit.plugins import GROUPS, load

ORIGIN = ("name", "about", "source", "paper")
"""Keys that say whose a preset is."""
TOP = (*ORIGIN, "concept", "synonym", "synonyms", "method", "methods", "moderate", "harden")
WORDS = ("guide", "preserve")
"""What a table of a method may hold beside the method's options."""
WHAT, SHIPPED = "preset", "editkit.erasure.presets"
MODERATE: Mapping[str, type] = {"strength": float}
HARDEN: Mapping[str, type] = {
    "goal": float, "rounds": int, "most_damage": float, "per_round": int, "pictures": int, "below": float,
    "searches": int, "weight": float, "give_up": list, "seed": int,
}  # fmt: skip
"""Parameters of these commands that a preset may state."""
KINDS = {int: "a whole number", float: "a number", list: "a list of texts"}


def preset_names() -> list[str]:
    """The presets that editkit has."""
    return shipped_names(SHIPPED)


def presets() -> list[Preset]:
    """The presets that `erase`, `moderate` and `harden` know by name.

    >>> [preset.name for preset in presets()]
    ['artists', 'celebrities', 'nudity', 'objects', 'unsafe', 'violence']
    """
    return [load_preset(name) for name in preset_names()]


def preset_path(name: str | Path) -> Path:
    """The file of a preset.

    Raises:
        EditkitError: no preset has that name.
    """
    return file_of(SHIPPED, name, WHAT)


def load_preset(preset: Preset | str | Path) -> Preset:
    """A preset by name, or from a `.toml` file; what is one already stays as it is.

    Args:
        preset: its name, or the path of a file.

    Raises:
        EditkitError: there is none, or a key is unknown or has a wrong value.

    >>> load_preset("nudty")
    Traceback (most recent call last):
        ...
    editkit.errors.EditkitError: preset 'nudty': did you mean nudity? expected one of artists, celebrities, nudity, \
objects, unsafe, violence, or the path of a .toml file; `editkit presets` describes them
    """
    if isinstance(preset, Preset):
        return preset
    path = preset_path(preset)
    return parse_preset(read_text(path, WHAT), path)


def parse_preset(text: str, path: Path) -> Preset:
    """The same from the text of the file. `path` names it in errors, and is where its paths start.

    Raises:
        EditkitError: as `load_preset`.
    """
    return _Reader(path, parse_toml(text, path, WHAT)).preset()


class _Reader(TomlReader):
    """Checks one file; every error names it and the key."""

    what = WHAT

    def preset(self) -> Preset:
        raw = self.raw
        self.known("", raw, TOP)
        name, about, source, paper = (self.text(key, self.path.stem if key == "name" else "") for key in ORIGIN)
        concept = self.concepts()
        synonyms = raw.get("synonyms")
        self.checked("synonyms", lambda: how_of(synonyms, True))
        method = self.text("method", GROUPS["methods"].default)
        self.checked("method", lambda: load("methods", method))
        methods = {
            each: self.method(each, table, concept)
            for each, table in self.table("methods", raw.get("methods", {})).items()
        }
        moderate, harden = (self.numbers(key, names) for key, names in (("moderate", MODERATE), ("harden", HARDEN)))
        if not 0 <= moderate.get("strength", 0) <= 1:
            raise self.wrong("moderate.strength", f"expected a number from 0 to 1, got {moderate['strength']}")
        synonym = self.texts("synonym", raw.get("synonym", []))
        return Preset(
            name, concept, synonym, synonyms, method, methods, moderate, harden, about, source, paper,
            self.sha256(concept),
        )  # fmt: skip

    def sha256(self, concept: tuple[str, ...]) -> str:
        """Of the words of a file of concepts, not of its path."""
        said = {key: value for key, value in self.raw.items() if key not in ORIGIN} | {"concept": concept}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def concepts(self) -> tuple[str, ...]:
        given = self.raw.get("concept", [])
        if isinstance(given, str):
            given = list(read_concept_file(self.path.parent / Path(given).expanduser()).concepts)
        words = self.texts("concept", given)
        if words:
            self.checked("concept", lambda: check_concepts(words))
        return words

    def method(self, name: str, table: Any, concept: tuple[str, ...]) -> MethodPreset:
        where = f"methods.{name}"
        kind = self.checked(where, lambda: load("methods", name))
        self.known(where, self.table(where, table), (*WORDS, *(option.name for option in options_of(kind))))
        guide, preserve = (self.texts(f"{where}.{key}", table.get(key, []), blank=True) for key in WORDS)
        if len(guide) not in (0, 1, len(concept)):
            raise self.wrong(
                f"{where}.guide", f"expected one guide, or one for each of {len(concept)} concepts, got {len(guide)}"
            )
        self.checked(f"{where}.preserve", lambda: check_preserve(concept, preserve))
        floats = {option.name for option in options_of(kind) if option.kind is float}
        options = {
            key: float(value) if key in floats and type(value) is int else value
            for key, value in table.items()
            if key not in WORDS
        }
        self.checked(where, lambda: Options(name, **options))
        return MethodPreset(options, guide, preserve)

    def numbers(self, key: str, kinds: Mapping[str, type]) -> dict[str, Any]:
        table = self.table(key, self.raw.get(key, {}))
        self.known(key, table, kinds)
        return {name: self.value(f"{key}.{name}", value, kinds[name]) for name, value in table.items()}

    def value(self, key: str, value: Any, kind: type) -> Any:
        """A float may be written as a whole number; nothing else stands for another kind."""
        if kind is list:
            return self.texts(key, value)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or not math.isfinite(value):
            raise self.wrong(key, f"expected {KINDS[kind]}, got {value!r}")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.raw.get(key, default)
        if not isinstance(value, str) or (key in self.raw and not value.strip()):
            raise self.wrong(key, f"expected a text, got {value!r}")
        return value.strip()

    def texts(self, key: str, value: Any, blank: bool = False) -> tuple[str, ...]:
        """A list of texts; where the empty prompt may be meant, also blank ones."""
        if not isinstance(value, list) or not all(isinstance(text, str) and (blank or text.strip()) for text in value):
            raise self.wrong(key, f"expected a list of texts, got {value!r}")
        return tuple(value)

    def checked(self, key: str, check: Any) -> Any:
        """What `check` returns; its error names the key."""
        try:
            return check()
        except EditkitError as error:
            raise self.wrong(key, str(error)) from error
