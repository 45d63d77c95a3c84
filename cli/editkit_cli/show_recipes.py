"""Print recipes, what a run will do, and what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from editkit.chaining.opened import Planned, RecipeRun
    from editkit.chaining.recipe import Recipe


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """What a listing says of one, as JSON."""
    return {
        "name": recipe.path.stem, "title": recipe.title, "about": recipe.about, "source": recipe.source,
        "model": recipe.model, "minutes": recipe.minutes, "stages": dict(recipe.stages),
    }  # fmt: skip


def show_recipes(known: Sequence[Recipe]) -> None:
    """Name, title, and what each does."""
    console = Console(highlight=False)
    for recipe in known:
        console.print(f"[bold]{escape(recipe.path.stem)}[/]  {escape(recipe.title)}")
        for text in (recipe.about, recipe.source and f"Source: {recipe.source}"):
            if text:
                console.print(Padding(escape(text), (0, 0, 0, 2)))
        chain = " → ".join(dict.fromkeys(str(said.get("do")) for said in recipe.stages.values()))
        console.print(Padding(escape(f"{recipe.model or 'emoji'}: {chain}"), (0, 0, 0, 2)), style="dim")
        console.print()


def show_plan(made: RecipeRun, as_json: bool) -> None:
    """What `run` would do."""
    planned = made.plan()
    if as_json:
        from editkit_cli.show import print_json

        print_json([_record(each) for each in planned])
        return
    table = Table(title=escape(made.recipe.title), title_justify="left")
    for name in ("stage", "does", "takes", "state", "seconds", "GiB"):
        table.add_column(name, no_wrap=name in ("stage", "state"))
    for each in planned:
        table.add_row(*map(escape, _cells(each)))
    console = Console(highlight=False)
    console.print(table)
    left = [each for each in planned if each.state != "done"]
    known = sum(each.seconds for each in left if each.seconds is not None)
    unknown = [each for each in left if each.seconds is None]
    console.print(f"{len(left)} of {len(planned)} stages are to be done, in {escape(str(made.folder))}", soft_wrap=True)
    if known:
        console.print(f"{len(left) - len(unknown)} of them ran here before, in {known:.0f} s")
    if unknown and made.recipe.minutes is not None:
        console.print(f"all of it takes about {made.recipe.minutes:g} minutes on two processor cores", soft_wrap=True)


def _record(each: Planned) -> dict[str, Any]:
    takes = [job.name for job in each.job.takes]
    return {
        "stage": each.job.name, "do": each.job.do, "said": dict(each.job.said), "takes": takes, "state": each.state,
        "seconds": each.seconds, "planned_bytes": each.memory,
    }  # fmt: skip


def _cells(each: Planned) -> tuple[str, ...]:
    """Of several variants that it takes the stages are told, since the variants stand above."""
    takes = [
        one if isinstance(one, str) else one.name if len(some) == 1 else one.stage
        for some in each.job.inputs.values()
        for one in some
    ]
    seconds = "" if each.seconds is None else f"{each.seconds:.1f}"
    memory = "" if each.memory is None else f"{each.memory / 2**30:.2f}"
    return each.job.name, each.job.do, ", ".join(dict.fromkeys(takes)), each.state, seconds, memory


def show_run(made: RecipeRun) -> None:
    """What was measured, and where everything is."""
    from editkit.chaining.figures import figures_of, verdicts_of
    from editkit.chaining.summary import PAGE

    console = Console(highlight=False)
    if not made.finished:
        left = [job.name for job in made.jobs if not made.done(job)]
        console.print(f"left to other processes, or for the next run: {escape(', '.join(left))}", soft_wrap=True)
        return
    figures = figures_of(made)
    for stage in dict.fromkeys(figure.stage for figure in figures):
        mine = [figure for figure in figures if figure.stage == stage]
        metrics = list(dict.fromkeys(figure.metric for figure in mine))
        table = Table("variant", *metrics, title=escape(stage), title_justify="left")
        for variant in dict.fromkeys(figure.variant for figure in mine):
            shown = {figure.metric: figure.shown for figure in mine if figure.variant == variant}
            table.add_row(escape(variant), *(shown.get(metric, "") for metric in metrics))
        console.print(table)
    for verdict in verdicts_of(made, figures):
        said, measured = verdict.published, verdict.measured
        here = "not measured" if measured is None else f"{measured.shown}, so it lies {verdict.said}"
        console.print(
            escape(f"{said.variant}, {said.metric}: {said.source} says {said.value:g}; measured {here}"), soft_wrap=True
        )
    console.print(f"report: {escape(str(made.folder / PAGE))}", soft_wrap=True)
