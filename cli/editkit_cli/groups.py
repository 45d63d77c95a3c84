"""Commands by name, and groups of them. One is built when it is called: the flags of some are read from what they
import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from editkit_cli.options import with_flags


class Commands(TyperGroup):
    """What its subclasses name."""

    functions: ClassVar[Mapping[str, Callable[..., None] | type[Commands]]]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.functions)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Its name and help alone: all that a list of commands shows."""
        command = self.functions.get(cmd_name)
        return None if command is None else TyperCommand(name=cmd_name, help=command.__doc__)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or name is None:
            return name, command, rest
        return name, _built(name, self.functions[name]), rest


def _built(name: str, command: Callable[..., None] | type[Commands]) -> Any:
    if isinstance(command, type):
        return get_group(typer.Typer(name=name, cls=command, help=command.__doc__, no_args_is_help=True))
    info = CommandInfo(name=name, callback=with_flags(command))
    return get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="rich")
