"""Parts of the pages that come from the code: every command's help, and every public name. MkDocs runs these hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COMMANDS = "<!-- every command -->"
NAMES = "<!-- every public name -->"
ROOMS = {
    "erasure": "Make an edit",
    "edits": "Edits and their options",
    "variants": "Files of edits",
    "model": "Models",
    "drawing": "Draw",
    "tuning": "Train",
    "redteam": "Attack and inspect",
    "evaluation": "Measure",
    "report": "Compare",
    "concepts": "Words and profiles",
    "errors": "Errors",
}
"""Package → heading of its public names, in the order of the page."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the two marks of `commands.md` and `reference.md`."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, "\n".join(command_lines()))
    if NAMES in markdown:
        markdown = markdown.replace(NAMES, "\n".join(name_lines()))
    return markdown


def commands() -> dict[str, Any]:
    """What is typed → the command, `editkit erase` and so on, groups opened."""
    import typer

    from editkit_cli.main import app

    return dict(_opened("editkit", typer.main.get_command(app)))


def _opened(typed: str, group: Any) -> Iterator[tuple[str, Any]]:
    context = group.make_context(typed, [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.resolve_command(context, [name])[1]
        if hasattr(command, "list_commands"):
            yield from _opened(f"{typed} {name}", command)
        else:
            yield f"{typed} {name}", command


def command_lines() -> Iterator[str]:
    """One section a command: what it does, how it is called, its arguments and options."""
    for typed, command in commands().items():
        context = command.make_context(typed, [], resilient_parsing=True)
        yield from ("", f"## {typed}", "", command.help or "", "")
        yield from ("```text", command.get_usage(context).removeprefix("Usage: "), "```", "")
        yield from ("| argument or option | meaning |", "| --- | --- |")
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is not None:
                name, meaning = (text.replace("|", "\\|").replace("<", "&lt;") for text in record)
                yield f"| `{name.replace('&lt;', '<')}` | {meaning} |"


def name_lines() -> Iterator[str]:
    """One entry for each name of `editkit.__all__`, under the heading of its package."""
    import editkit

    homes = {name: editkit._HOMES[name].split(".")[1] for name in editkit.__all__}
    strange = {*homes.values()} - {*ROOMS}
    if strange:
        raise LookupError(f"docs/hooks.py: no heading for public names of {', '.join(sorted(strange))}; add to ROOMS")
    for room, heading in ROOMS.items():
        names = [name for name, home in homes.items() if home == room]
        if names:
            yield from ("", f"## {heading}", "")
            yield from (f"::: editkit.{name}\n" for name in names)
