"""Flags that are made from the options of components, so that an option is written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from editkit.options import Option, options_of
from editkit.plugins import loadable

Command = TypeVar("Command", bound=Callable[..., None])
Components = Mapping[str, Any]
"""Component → its class, or its options. Under the name "" are those that all have in common."""


def flags(components: Callable[[], Components], less: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Give a command a flag for every option of `components`; what is typed of them arrives as its keyword arguments.

    Args:
        components: called when the command runs or shows its help, since it imports them.
        less: options that the command has flags of its own for, or none.
    """

    def mark(command: Command) -> Command:
        command.__dict__["components"], command.__dict__["less"] = components, frozenset(less)
        return command

    return mark


def group(group: str) -> Callable[[], Components]:
    """Every component of a group that can be imported: what cannot says so when it is chosen."""
    return lambda: loadable(group)


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer reads it: a parameter for each flag. A command without `flags` stays as it is."""
    if "components" not in command.__dict__:
        return command
    signature = inspect.signature(command, eval_str=True)
    own = [known for known in signature.parameters.values() if known.kind is not known.VAR_KEYWORD]
    taken = {known.name for known in own} | command.__dict__["less"]
    by_name: dict[str, dict[str, Option]] = {}
    components = command.__dict__["components"]()
    for component, kind in components.items():
        for known in kind if isinstance(kind, tuple) else options_of(kind):
            if known.shown and known.name not in taken:
                by_name.setdefault(known.name, {})[component] = known
    made = [_parameter(name, among, len(components)) for name, among in by_name.items()]

    def called(**given: Any) -> None:
        command(**{name: value for name, value in given.items() if value is not None or name in taken})

    called.__doc__ = command.__doc__
    called.__dict__["__signature__"] = signature.replace(parameters=[_by_name(known) for known in [*own, *made]])
    return called


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _parameter(name: str, among: Mapping[str, Option], components: int) -> inspect.Parameter:
    """The flag of one option, which some of the command's components have."""
    first = next(iter(among.values()))
    panel = "Options" if len(among) == components or "" in among else f"Options of {', '.join(among)}"
    choices = f" One of {', '.join(first.choices)}." if first.choices else ""
    about = " ".join(filter(None, (first.help + choices, _bounds(first), _default(among))))
    shown = typer.Option(*([first.typed] if first.typed else []), help=about, rich_help_panel=panel)
    kind = first.kind if first.kind in (int, float, bool) else str
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
    )


def _bounds(known: Option) -> str:
    if known.at_least is not None:
        return f"At least {known.at_least:g}."
    return "" if known.above is None else f"Above {known.above:g}."


def _default(among: Mapping[str, Option]) -> str:
    usual = _each({name: known.default for name, known in among.items()})
    cases = dict.fromkeys(case for known in among.values() for case in known.otherwise)
    others = {
        case: _each({name: known.otherwise.get(case, known.default) for name, known in among.items()}) for case in cases
    }
    more = [f"with {case} {values}" for case, values in others.items() if values != usual]
    return f"Default: {'; '.join([usual, *more])}." if usual else ""


def _each(values: Mapping[str, Any]) -> str:
    """One value where all are the same, else which component has which."""
    have: dict[str, list[str]] = {}
    for name, value in values.items():
        have.setdefault(_text(value), []).append(name)
    if len(have) == 1:
        return next(iter(have))
    return ", ".join(f"{text} ({', '.join(components)})" for text, components in have.items())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
