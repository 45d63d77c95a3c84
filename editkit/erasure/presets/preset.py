"""A preset: what a paper erases and how, under a name. `--preset NAME` of erase, moderate and harden.

What a user says wins over what the preset says, word by word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from editkit.edits.method import Method, Options
from editkit.erasure.synonyms import MoreWords
from editkit.options import Option, options_of
from editkit.plugins import GROUPS, load


class Asked(NamedTuple):
    """What `erase` is asked for, as its parameters of the same names are."""

    concepts: Sequence[str]
    guides: Sequence[str]
    preserve: Sequence[str]
    options: Method
    synonyms: str | None
    synonym: MoreWords


@dataclass(frozen=True)
class MethodPreset:
    """What a preset says of one method.

    Attributes:
        options: of the method, by name.
        guide, preserve: as `erase` takes them; empty: the preset says nothing.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    guide: tuple[str, ...] = ()
    preserve: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """The contents of a preset's file.

    Attributes:
        name: of the file, or what it says.
        about: one sentence.
        source: where words and numbers are from, and what is said nowhere.
        paper: whose they are.
        concept, synonym, synonyms: as `editkit erase` takes them.
        method: the one that is taken where the user names none.
        methods: name → what is said of it.
        moderate, harden: what is said of these commands, by the names of their parameters.
        sha256: of all that it says, but for its name and where that is from.
    """

    name: str
    concept: tuple[str, ...] = ()
    synonym: tuple[str, ...] = ()
    synonyms: str | None = None
    method: str = GROUPS["methods"].default
    methods: Mapping[str, MethodPreset] = field(default_factory=dict)
    moderate: Mapping[str, Any] = field(default_factory=dict)
    harden: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    source: str = ""
    paper: str = ""
    sha256: str = ""

    @property
    def record(self) -> dict[str, str]:
        """What an edit says of it."""
        return {"name": self.name, "sha256": self.sha256}

    def as_dict(self) -> dict[str, Any]:
        """As JSON, with the equivalent command line of every method."""
        return {**asdict(self), "commands": {method: self.words(method) for method in self.methods}}

    def options(self, method: str | None = None, **given: Any) -> Method:
        """The options of a method, by default the preset's: what is given, and for the rest what the preset says.

        What it says of a method was published with one kind of protection. With another `protect` none of it is taken:
        a λ that suits one does not suit another.

        Args:
            method: a name of `editkit.methods()`.
            given: its options; None counts as not given.

        Raises:
            EditkitError: as `Options`.

        >>> from editkit.erasure.presets.preset_file import load_preset
        >>> nudity = load_preset("nudity")
        >>> nudity.options().epochs, nudity.options(epochs=1).epochs, nudity.options("uce").lamb
        (3, 1, 0.5)
        >>> nudity.options(protect="minimax").lamb == Options().lamb
        True
        """
        method = method or self.method
        given = {name: value for name, value in given.items() if value is not None}
        said = self.methods.get(method, MethodPreset()).options
        if said and given.get("protect", self._protect(method)) != self._protect(method):
            said = {}
        return Options(method, **{**said, **given})

    def of(self, options: Method) -> MethodPreset:
        """What is said of the method that `options` are of, if that is for its kind of protection."""
        return self.methods[options.name] if options.name in self.methods and self._suits(options) else MethodPreset()

    def told(self, options: Method) -> str | None:
        """A line where the preset says nothing that is taken for `options`."""
        if options.name not in self.methods:
            return f"preset {self.name}: says nothing of --method {options.name}; its defaults are taken"
        if not self._suits(options):
            return (
                f"preset {self.name}: what it says of --method {options.name} is for --protect "
                f"{self._protect(options.name)}; with --protect {options.protect} the defaults are taken"
            )
        return None

    def filled(
        self,
        concepts: Sequence[str],
        guides: Sequence[str],
        preserve: Sequence[str],
        options: Method | None,
        synonyms: str | None,
        synonym: MoreWords,
    ) -> Asked:
        """What is given, and for the rest what the preset says. Synonyms, and guides that are one each, go with the
        preset's own concepts: where others are given, they are not taken."""
        options = options or self.options()
        said = self.of(options)
        mine = not concepts
        guide = said.guide if mine or len(said.guide) == 1 else ()
        return Asked(
            concepts or self.concept, guides or guide, preserve or said.preserve, options,
            self.synonyms if synonyms is None else synonyms, synonym or (self.synonym if mine else ()),
        )  # fmt: skip

    def words(self, method: str | None = None) -> list[str]:
        """What is typed to do the same without it: `["editkit", "erase", "--method", ...]`.

        >>> from editkit.erasure.presets.preset_file import load_preset
        >>> load_preset("nudity").words("uce")[:6]
        ['editkit', 'erase', '--method', 'uce', '--concept', 'nudity']
        """
        method = method or self.method
        said = self.methods.get(method, MethodPreset())
        words = ["editkit", "erase", "--method", method]
        for flag, values in (
            ("--concept", self.concept), ("--synonym", self.synonym), ("--guide", said.guide),
            ("--preserve", said.preserve),
        ):  # fmt: skip
            words += [word for value in values for word in (flag, value)]
        if self.synonyms is not None:
            words += ["--synonyms", self.synonyms]
        known = {each.name: each for each in options_of(load("methods", method))}
        for name, value in said.options.items():
            words += typed(known[name], value)
        return words

    def _suits(self, options: Method) -> bool:
        return options.name not in self.methods or options.protect == self._protect(options.name)

    def _protect(self, method: str) -> str:
        """The protection that what is said of `method` is for."""
        said = self.methods[method].options
        return said.get("protect") or Options(method).protect


def typed(option: Option, value: Any) -> list[str]:
    """How an option is typed with a value.

    >>> from editkit.edits.rece import RECE
    >>> [typed(option, False) for option in options_of(RECE) if option.name in ("joint", "hard")]
    [['--soft'], ['--no-joint']]
    """
    if option.kind is not bool:
        return [option.flag, str(value)]
    on, _, off = option.typed.partition("/")
    return [(on or option.flag) if value else (off or f"--no-{option.name.replace('_', '-')}")]
