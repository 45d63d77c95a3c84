"""The options of a component, each written once: its name, type, default, bounds and help.

A component is a frozen dataclass whose fields are made by `option`. What the command line, `--sweep`, records and
listings show of them is read from these fields.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Ridge(Checked):
...     '''Ridge regression.'''
...     lamb: float = option(0.1, "Ridge weight λ.", at_least=0)
>>> Ridge().lamb
0.1
>>> Ridge(lamb=-1)
Traceback (most recent call last):
    ...
editkit.errors.EditkitError: --lamb: expected a finite number of at least 0, got -1
>>> [(known.name, known.kind, known.default) for known in options_of(Ridge)]
[('lamb', <class 'float'>, 0.1)]
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from inspect import get_annotations
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from editkit.errors import EditkitError

REQUIRED: Any = MISSING
"""The default of an option that has none."""


@dataclass(frozen=True)
class Usual:
    """A default that depends on another option: `value`, or the entry of `otherwise` that the component chooses."""

    value: Any
    otherwise: Mapping[str, Any]


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    otherwise: Mapping[str, Any] | None = None,
    shown: bool = True,
    flag: str = "",
) -> Any:
    """A field of a component.

    Args:
        default: its value where nothing is given.
        help: what it does, in a sentence.
        choices: the words that it may be.
        at_least, above: bounds of a number.
        otherwise: other defaults by what must be typed for them (`--protect none`), for a component whose defaults
            depend on another option; it settles them with `settle`. Empty: they are no constants that could stand here.
        shown: whether the command line has a flag for it.
        flag: as it is typed, where that is not its name: `--tokens`, or `--hard/--soft`.
    """
    about = {"help": help, "choices": choices, "at_least": at_least, "above": above, "shown": shown, "flag": flag}
    return field(default=default if otherwise is None else Usual(default, otherwise), metadata=about)


@dataclass(frozen=True)
class Option:
    """What is known of one option.

    Attributes:
        kind: its type, without None.
        optional: whether None, "what suits", is a value.
        default: None where it must be given, or where that is a value.
        required: whether it must be given.
        otherwise: its other defaults by name.
        typed: its flag, where that is not its name.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    otherwise: Mapping[str, Any]
    help: str
    choices: tuple[str, ...]
    at_least: float | None
    above: float | None
    shown: bool
    required: bool = False
    typed: str = ""

    @property
    def flag(self) -> str:
        """As it is typed: `--erase-scale`."""
        return self.typed or flag(self.name)

    @property
    def form(self) -> str:
        """Type and default, for a listing: `float = 0.1`."""
        kind = " | ".join(self.choices) or self.type_name
        cases = "".join(f", {value} with {case}" for case, value in self.otherwise.items())
        default = "" if self.default is None and not cases else f" = {self.default}{cases}"
        return f"{kind}{default}{', to be given' if self.required else ''}"

    @property
    def type_name(self) -> str:
        """`float`, `Path`, `Sequence[str]`."""
        if get_origin(self.kind) is None and isinstance(self.kind, type):
            return self.kind.__name__
        return re.sub(r"(\w+\.)+", "", str(self.kind))

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        plain = self.default is None or isinstance(self.default, str | int | float)
        return {
            "name": self.name, "type": self.type_name,
            "default": self.default if plain else str(self.default), "otherwise": dict(self.otherwise),
            "required": self.required, "optional": self.optional, "help": self.help,
            "choices": list(self.choices), "at_least": self.at_least, "above": self.above,
        }  # fmt: skip

    def parse(self, text: str, what: str = "") -> Any:
        """The value that `text` means. `what` names the option in an error; default: its flag.

        Raises:
            EditkitError: it is not of the option's type.
        """
        what = what or self.flag
        if self.optional and text.lower() == "none":
            return None
        if self.kind is bool:
            if text.lower() not in ("true", "false"):
                raise EditkitError(f"{what}: expected true or false, got {text!r}")
            return text.lower() == "true"
        if self.choices and text not in self.choices:
            raise EditkitError(f"{what}: must be one of {', '.join(self.choices)}, but got {text!r}")
        if self.kind not in (int, float):
            return text
        try:
            return self.kind(text)
        except ValueError as error:
            wanted = "a whole number" if self.kind is int else "a number"
            raise EditkitError(f"{what}: expected {wanted}, got {text!r}") from error

    def check(self, value: Any, what: str = "") -> None:
        """Refuse a value that it cannot have. `what` names the option in an error; default: its flag.

        Raises:
            EditkitError: naming the flag, what was expected, and what came.
        """
        what = what or self.flag
        if value is None and self.optional:
            return
        if self.choices and value not in self.choices:
            raise EditkitError(f"{what}: must be one of {', '.join(self.choices)}, but got {value!r}")
        if self.kind is bool and not isinstance(value, bool):
            raise EditkitError(f"{what}: expected true or false, got {value!r}")
        if self.kind is str and isinstance(value, int | float | list | dict):
            raise EditkitError(f"{what}: expected a text, got {value!r}")
        if self.kind not in (int, float):
            return
        if not self._is_number(value):
            wanted = "a finite number" if self.kind is float else "a whole number"
            bound = "" if self.at_least is None else f" of at least {self.at_least:g}"
            bound = bound if self.above is None else f" above {self.above:g}"
            raise EditkitError(f"{what}: expected {wanted}{bound}, got {value}")

    def _is_number(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.kind is int and not isinstance(value, int):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.above is None or value > self.above)


class Checked:
    """A base for components: what they are given is checked against their options."""

    def __post_init__(self) -> None:
        check_options(self)


def flag(name: str) -> str:
    """The flag of an option's name: `erase_scale` → `--erase-scale`."""
    return f"--{name.replace('_', '-')}"


def options_of(component: Any) -> tuple[Option, ...]:
    """The options of a component's class, in order; none for what is no dataclass."""
    kind = component if isinstance(component, type) else type(component)
    if not is_dataclass(kind):
        return ()
    return tuple(_option(each, _hint(kind, each)) for each in fields(kind) if each.init)


def _hint(kind: type, each: Any) -> Any:
    """The type of one field alone: others may have types that are imported for the type checker and not here."""
    owner = next(base for base in kind.__mro__ if each.name in get_annotations(base))
    alone = SimpleNamespace(__annotations__={each.name: each.type})
    return get_type_hints(alone, vars(sys.modules[owner.__module__]))[each.name]


def _option(each: Any, hint: Any) -> Option:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kind = next((kind for kind in kinds if kind is not NoneType), str)
    kind = str if get_origin(kind) is Literal else kind
    default = None if each.default is MISSING else each.default
    usual = default if isinstance(default, Usual) else Usual(default, {})
    about = each.metadata
    return Option(
        each.name,
        kind,
        NoneType in kinds,
        usual.value,
        usual.otherwise,
        about.get("help", ""),
        about.get("choices", ()),
        about.get("at_least"),
        about.get("above"),
        about.get("shown", True),
        each.default is MISSING,
        about.get("flag", ""),
    )


def in_case(kind: Any, case: str) -> dict[str, Any]:
    """The defaults that are others where `case` is typed, by name."""
    return {known.name: known.otherwise[case] for known in options_of(kind) if case in known.otherwise}


def settle(component: Any, usual: Mapping[str, Any]) -> None:
    """Give every option that was left at a `Usual` default its value: that in `usual`, or its own."""
    for each in fields(component):
        value = getattr(component, each.name)
        if isinstance(value, Usual):
            object.__setattr__(component, each.name, usual.get(each.name, value.value))


def check_options(component: Any) -> None:
    """Refuse values that an option of `component` cannot have.

    Raises:
        EditkitError: see `Option.check`.
    """
    for known in options_of(component):
        known.check(getattr(component, known.name))


def assign_options(kinds: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What of `given` goes to which component: each gets the options that it has. None counts as not given.

    Args:
        kinds: what errors call a component, such as "method rece" → its class.
        given: option → value.

    Returns:
        Those of each component, under the names of `kinds` and in their order.

    Raises:
        EditkitError: no component has such an option; with the nearest name and all that there are.

    >>> from editkit.evaluation.metrics.exposure import NER
    >>> from editkit.evaluation.metrics.success import ESR
    >>> assign_options({"metric esr": ESR, "metric ner": NER}, {"k": 5, "threshold": 0.6})
    {'metric esr': {'k': 5}, 'metric ner': {'threshold': 0.6}}
    """
    names = {what: [known.name for known in options_of(kind)] for what, kind in kinds.items()}
    every = list(dict.fromkeys(name for own in names.values() for name in own))
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in every:
            near = get_close_matches(name, every, 1)
            hint = f"did you mean {flag(near[0])}? " if near else ""
            have = ", ".join(map(flag, every)) or "none"
            alone = len(kinds) == 1
            who = f"{next(iter(kinds))} has no such option" if alone else f"none of {', '.join(kinds)} has it"
            raise EditkitError(f"{flag(name)}: {who}; {hint}{'its' if alone else 'their'} options: {have}")
    return {what: {name: given[name] for name in given if name in own} for what, own in names.items()}


def checked_names(kind: Any, given: Mapping[str, Any], what: str) -> None:
    """Refuse names in `given` that are no options of `kind`, as `assign_options` does; values do not matter."""
    assign_options({what: kind}, dict.fromkeys(given, ""))
