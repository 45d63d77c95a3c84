"""Parts of the pages that come from the code: commands, public names, components. MkDocs runs these hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COMMANDS = "<!-- every command -->"
NAMES = "<!-- every public name -->"
GROUPS = "<!-- every group -->"
COMPONENTS = "<!-- every component -->"
ROOMS = {
    "erasure": "Make an edit",
    "edits": "Edits and their options",
    "variants": "Files of edits",
    "model": "Models",
    "drawing": "Draw",
    "tuning": "Train",
    "inverting": "Learn from pictures",
    "gating": "Gate",
    "balancing": "Balance",
    "redteam": "Attack and inspect",
    "evaluation": "Measure",
    "report": "Compare",
    "publishing": "Publish",
    "chaining": "Chain",
    "concepts": "Words and profiles",
    "listings": "Components",
    "emoji": "Bundled models",
    "errors": "Errors",
}
"""Package → heading of its public names, in the order of the page."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what comes from the code where a page has a mark for it."""
    for mark, lines in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, "\n".join(lines()))
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
                yield f"| `{_cell(record[0])}` | {_text(record[1])} |"


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


def group_lines() -> Iterator[str]:
    """The groups of components, as a table."""
    from editkit import plugins

    yield from ("| group | what they are | entry points |", "| --- | --- | --- |")
    for name, group in plugins.GROUPS.items():
        yield f"| {name} | {_cell(group.about)} | `editkit.{name}` |"


def component_lines() -> Iterator[str]:
    """Every component of editkit by group, with its options."""
    from editkit import plugins

    for group, known in plugins.GROUPS.items():
        yield from (
            "",
            f"## {group.capitalize()}",
            "",
            f"{_text(known.about)[:1].upper()}{_text(known.about)[1:]}.",
            "",
        )
        for component in plugins.describe(group):
            if component.origin == "editkit":
                yield from _component(component, known.flags)


def _component(component: Any, flags: bool) -> Iterator[str]:
    typed = (f"Written `{_cell(component.usage)}`.", "") if component.usage != component.name else ()
    yield from ("", f"### {component.name}", "", _text(component.summary), "", *typed)
    if component.source:
        yield from (f"Source: {_text(component.source)}.", "")
    if component.options:
        yield from ("| option | type | default | meaning |", "| --- | --- | --- | --- |")
    for option in component.options:
        kind = " or ".join(option.choices) or option.type_name
        cases = "; ".join(f"{value} with {case}" for case, value in option.otherwise.items())
        default = "; ".join(filter(None, ("" if option.default is None else str(option.default), cases)))
        typed = option.flag if flags else option.name
        yield f"| `{_cell(typed)}` | {_cell(kind)} | {_cell(default)} | {_text(option.help)} |"


def _cell(text: str) -> str:
    """As a cell of a table."""
    return text.replace("|", "\\|")


def _text(text: str) -> str:
    """As text, where `<path>` would be a tag."""
    return _cell(text).replace("<", "&lt;")


MARKS = {COMMANDS: command_lines, NAMES: name_lines, GROUPS: group_lines, COMPONENTS: component_lines}
"""Mark in a page → the lines that take its place."""
