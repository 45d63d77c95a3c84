"""Print the results of an evaluation as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editkit.evaluation.results import PARQUET, RESULTS, Results
from editkit.evaluation.suites.suite import Suite

FEW_CLUSTERS = 10
MOST_PAIRS = 3
MOST_ACROSS = 3


def show_results(results: Results, per_class: bool = False) -> None:
    """The metrics of every variant, and the differences of every pair."""
    console = Console()
    record = results.record
    protocol, intervals = record["protocol"], record["intervals"]
    suite = protocol["suite"]["name"] + (f", split {protocol['split']}" if protocol["split"] else "")
    erased = f"; erased: {', '.join(protocol['erased'])}" if protocol["erased"] else ""
    console.print(f"[bold]{escape(suite)}[/]{escape(erased)}")
    console.print(_values(results))
    if per_class:
        for name, metric in record["metrics"].items():
            _show_classes(console, name, metric)
    _show_differences(console, "Differences, same prompts and noise", record["differences"], results.variants)
    if "against" in record:
        _show_differences(console, "Against the earlier result", record["against"], [])
    few = "; so few that the intervals are rough" if intervals["count"] < FEW_CLUSTERS else ""
    console.print(
        f"{record['pictures']} pictures a variant, judged by {protocol['detector']}. In brackets: 95 % interval, from "
        f"{intervals['count']} independent {intervals['clusters']}s{few}. ↑ higher is better, ↓ lower.",
        soft_wrap=True,
        highlight=False,
    )
    for name, count in record["errors"].items():
        if count:
            console.print(
                f"[red]{escape(name)}: {count} pictures could not be judged; they count as failures[/]", soft_wrap=True
            )
    console.print(f"results: {results.folder / RESULTS}, {results.folder / PARQUET}", soft_wrap=True, highlight=False)


def _values(results: Results) -> Table:
    """Variants across where they are few, else metrics across."""
    cells: dict[str, dict[str, str]] = {variant: {} for variant in results.variants}
    for name, metric in results.record["metrics"].items():
        for variant in results.variants:
            cells[variant][_titled(name, metric)] = _interval(metric["variants"][variant]["all"], metric["is_rate"])
    if any(results.record["errors"].values()):
        for variant, count in results.record["errors"].items():
            cells[variant]["errors"] = str(count)
    names = list(next(iter(cells.values())))
    if len(cells) <= MOST_ACROSS:
        table = Table("metric", *(escape(variant) for variant in cells))
        for name in names:
            table.add_row(name, *(cells[variant][name] for variant in cells))
        return table
    table = Table("variant", *names)
    for variant, mine in cells.items():
        table.add_row(escape(variant), *mine.values())
    return table


def _show_classes(console: Console, name: str, metric: Mapping[str, Any]) -> None:
    """One row a class."""
    labels = dict.fromkeys(label for mine in metric["variants"].values() for label in mine["classes"])
    if not labels:
        return
    table = Table(_titled(name, metric), *(escape(variant) for variant in metric["variants"]))
    for label in labels:
        stored = [mine["classes"].get(label) for mine in metric["variants"].values()]
        table.add_row(
            escape(label), *("–" if value is None else _interval(value, metric["is_rate"]) for value in stored)
        )
    console.print(table)


def _show_differences(
    console: Console, title: str, differences: Sequence[Mapping[str, Any]], variants: Sequence[str]
) -> None:
    """Every pair; with many variants, those with the first one."""
    pairs = list(dict.fromkeys((difference["from"], difference["to"]) for difference in differences))
    shown = pairs if len(pairs) <= MOST_PAIRS else [pair for pair in pairs if pair[0] == pairs[0][0]]
    if not shown:
        return
    table = Table("from → to", "metric", "difference", "McNemar", title=title, title_justify="left")
    for difference in differences:
        if (difference["from"], difference["to"]) in shown:
            test = difference["mcnemar"]
            p = "" if test is None else f"p {test['p']:.2g} ({test['only_second']} more, {test['only_first']} fewer)"
            table.add_row(
                escape(f"{difference['from']} → {difference['to']}"),
                difference["metric"],
                _interval(difference["difference"], test is not None, signed=True),
                p,
            )
    console.print(table)
    if len(shown) < len(pairs):
        console.print(f"{len(pairs) - len(shown)} more pairs are in {RESULTS}")


def _titled(name: str, metric: Mapping[str, Any]) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[metric["higher_is_better"]]
    return name + arrow + (" %" if metric["is_rate"] else "")


def _interval(stored: Mapping[str, Any], is_rate: bool, signed: bool = False) -> str:
    """ "97.5 [95.0, 99.1]", rates in per cent."""
    if stored["value"] is None:
        return "–"
    sign = "+" if signed else ""
    form = f"{sign}.1f" if is_rate else f"{sign}.3f"
    if stored["low"] is None:
        return format(stored["value"], f"{sign}.3f")
    value, low, high = (format((100 if is_rate else 1) * stored[name], form) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def show_suites(suites: Sequence[Suite]) -> None:
    """What each measures, and what it needs."""
    console = Console()
    for suite in suites:
        needs = [
            *(["your prompt file, by --prompts"] if suite.prompts and suite.file is None else []),
            *([suite.needs] if suite.needs else []),
        ]
        console.print(f"[bold]{suite.name}[/]  {escape(suite.about)}", highlight=False)
        version = f", version {suite.version}" if suite.version else ""
        details = {
            "protocol": suite.protocol + version if suite.protocol else "",
            "splits": ", ".join(suite.splits),
            "detector": suite.detector or "none",
            "metrics": ", ".join(suite.metrics),
        }
        for name, text in {**details, "needs": "; ".join(needs)}.items():
            if text:
                console.print(f"  {name}: {escape(text)}", highlight=False)
