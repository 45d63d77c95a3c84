"""What a stage of a recipe may say: the parameters of its function, and the options of the components that it takes.

>>> def draw(prompts: list[str], out: str, steps: int | None = None) -> None: ...
>>> known = fields_of(draw, less={"out"})
>>> [(name, known[name].shape) for name in known]
[('prompts', 'a list'), ('steps', 'a whole number or none')]
>>> known["steps"].admits(20), known["steps"].admits([20, 50])
(True, False)
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from editkit.options import Option

WORDS: Mapping[type, str] = {
    list: "a list", dict: "a table", str: "a text", bool: "true or false", int: "a whole number", float: "a number",
    type(None): "none",
}  # fmt: skip
KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,), "Path": (str,), "Path_": (str,), "os.PathLike[str]": (str,), "ProfileOrFile": (str,),
    "CaptionsLike": (str,), "Pictures": (str,), "MoreWords": (list, dict), "bool": (bool,), "int": (int,),
    "float": (int, float), "None": (type(None),), "tuple[int, int]": (str,),
}  # fmt: skip
"""What stands for a type of a signature in a file; others are lists where they are sequences, tables where they are
mappings. A size is a text: "512x768"."""
PATHS = ("Path", "Path_", "os.PathLike[str]", "ProfileOrFile", "CaptionsLike", "Pictures")


@dataclass(frozen=True)
class Field:
    """One thing that a stage may say.

    Attributes:
        kinds: what its value may be; empty: anything.
        required: whether it must be said.
        option: of the component whose option it is.
        is_path: whether a text is the path of a file or folder.
    """

    name: str
    kinds: tuple[type, ...] = ()
    required: bool = False
    option: Option | None = None
    is_path: bool = False

    @property
    def shape(self) -> str:
        """Its kinds for a reader."""
        some = self.kinds if float not in self.kinds else tuple(kind for kind in self.kinds if kind is not int)
        return " or ".join(WORDS[kind] for kind in some)

    def admits(self, value: Any) -> bool:
        """Whether `value` is of one of its kinds."""
        return not self.kinds or type(value) in self.kinds


def fields_of(function: Any, less: Collection[str] = ()) -> dict[str, Field]:
    """The parameters of a function, by name, without those of `less` and without `**more`."""
    kept = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: Field(
            name, _kinds(known.annotation), known.default is known.empty,
            is_path=any(part in PATHS for part in _parts(known.annotation)),
        )
        for name, known in inspect.signature(function).parameters.items()
        if known.kind in kept and name not in less
    }  # fmt: skip


def option_fields(options: Collection[Option]) -> dict[str, Field]:
    """The options of a component, by name."""
    return {known.name: Field(known.name, _option_kinds(known), False, known) for known in options}


def _option_kinds(known: Option) -> tuple[type, ...]:
    kinds = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}.get(known.kind, (str,))
    return (*kinds, type(None)) if known.optional else kinds


def _kinds(annotation: Any) -> tuple[type, ...]:
    """Of a signature's text: `Sequence[str] | None`."""
    kinds: list[type] = []
    for part in _parts(annotation):
        if part.startswith(("Sequence[", "list[")):
            kinds.append(list)
        elif part.startswith("Mapping["):
            kinds.append(dict)
        else:
            kinds += KINDS.get(part, ())
    return tuple(dict.fromkeys(kinds))


def _parts(annotation: Any) -> list[str]:
    """A class is told by its name: a module of another package may say types as they are, not as texts."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation.__name__]
    return [part.strip() for part in str(annotation).split("|")]
