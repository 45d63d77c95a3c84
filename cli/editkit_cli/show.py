"""Print records and models, for people or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editkit.model.families.family import Family
from editkit.report.figure_names import PLAIN_NAMES, PLAIN_WORDS, number
from editkit_cli.show_shares import show_shares

if TYPE_CHECKING:
    from editkit.inverting.round_options import RoundOptions
    from editkit.model.checkpoints.source import Source
    from editkit.model.families.support import Support
    from editkit.redteam.inspection import Difference
    from editkit.report.concept_graph import ConceptGraph
    from editkit.report.sensitivity import Sensitivity
    from editkit.tuning.options import RefineOptions


LEAST_SHOWN = 5
"""Concepts that are named, those with the least."""


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_record(record: Mapping[str, Any], path: Path, as_json: bool) -> None:
    """What was edited, how, and the figures."""
    if as_json:
        print_json({"file": str(path), **record})
        return
    console = Console()
    alone = f" of {' and '.join(record['from'])} alone" if "from" in record else ""
    changed = ", ".join(f"{concept}{alone} → {_shown(guide)}" for concept, guide in zip(*_pairs(record), strict=True))
    how = [str(record.get("method"))]
    if "protect" in record.get("options", {}):
        how.append(f"protect {record['options'].get('protect')}")
    if "scale" in record:
        how.append(f"scale {record['scale']:g}")
    if "preset" in record:
        how.append(f"preset {record['preset']['name']}")
    console.print(f"model [bold]{escape(str(record.get('model')))}[/], {', '.join(how)}: {escape(changed)}")
    for concept, same in record.get("synonyms", {}).items():
        console.print(f"erased with {escape(concept)}: {escape(', '.join(same))}")
    if "gate" in record:
        _show_gate(console, record["gate"])
    for concept, prompts in record.get("found", {}).items():
        console.print(f"prompts that brought {escape(concept)} back, erased with it: {len(prompts)}")
    for concept, guide in record.get("ledger", {}).get("resolved", {}).items():
        console.print(f"{escape(concept)} becomes {escape(_shown(guide))}, since its guide is erased, too")
    if "debias" in record:
        show_shares(console, record["debias"])
    figures = record.get("figures", {})
    _show_figures(console, figures, "What the edit does")
    for key, name in PLAIN_NAMES.items():
        values = {
            concept: each[key]
            for concept, each in zip(record.get("concepts", []), figures.get("each_concept", []), strict=False)
            if each[key] is not None and (key == "leverage" or figures["kernel_rank"])
        }
        least = sorted(values, key=lambda concept: values[concept])[:LEAST_SHOWN]
        if least:
            told = ", ".join(f"{concept} {number(values[concept])}" for concept in least)
            console.print(f"{name}: {escape(told)}", highlight=False)
    for stream, more in figures.items():
        if isinstance(more, Mapping) and "rank" in more:
            _show_figures(console, more, f"What it does to the {stream} vector")
    if "moderated" in record:
        _show_moderated(record["moderated"])
    print(f"edit: {path}")


MODERATED = {
    "unedited": "of the unedited model's pictures show it",
    "moderated": "of this edit's",
    "whole": "of the whole edit's",
    "part": "of what the whole edit takes is gone",
}


def _show_moderated(moderated: Mapping[str, Any]) -> None:
    """How far of the way an edit was to go, and how far it was seen to go."""
    asked = f", searched for {moderated['strength']:g} of the share" if moderated["by"] == "share" else ""
    print(f"planned: keys and values of the concept go {moderated['planned']:.3g} of the way of the whole edit{asked}")
    if moderated["judge"] is None:
        print("measured: nothing, since nobody judged pictures; give --detector, and --pictures above 0")
        return
    print(f"measured by {moderated['judge']}, with 95 % intervals:")
    for name, meaning in MODERATED.items():
        share = moderated[name]
        if share["value"] is None:
            print("  no part of what the whole edit takes: it takes nothing that is seen")
        else:
            print(f"  {share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%}) {meaning}")
    if moderated["errors"]:
        print(f"  {moderated['errors']} pictures could not be judged, and are left out")


def show_plan(
    source: Source,
    options: RefineOptions,
    device: str | None,
    phrases: Sequence[int],
    rounds: RoundOptions | None = None,
) -> None:
    """The memory that a run will take, and with rounds its passes, on the error stream of the first process.

    Args:
        phrases: of each concept, how many are erased: its word, and tokens.
    """
    from editkit.drawing.files import Shard
    from editkit.drawing.sampling import Sampling
    from editkit.inverting.stereo_plan import planned_passes, rows_of
    from editkit.tuning.memory import plan_memory

    shard = Shard.from_environment()
    if not shard.is_first:
        return
    count = sum(phrases) + (0 if rounds is None else rounds.rounds * len(phrases))
    print(plan_memory(source, options, device or shard.device(), count, shard.count, rows_of(rounds)), file=sys.stderr)
    if rounds is not None:
        print(planned_passes(options, rounds, Sampling.for_model(source), phrases), file=sys.stderr)


def show_differences(differences: Sequence[Difference], what: str, top: int, as_json: bool) -> None:
    """Words that two models draw differently; as JSON all of them."""
    if as_json:
        print_json([vars(difference) for difference in differences])
        return
    names = ["change", "relative"] + (
        ["distance", "score"] if any(difference.distance is not None for difference in differences) else []
    )
    table = Table("rank", "word", *names, title=f"Differences of {escape(what)}", title_justify="left")
    for n, difference in enumerate(differences[:top], 1):
        table.add_row(str(n), escape(difference.word), *(number(getattr(difference, name)) for name in names))
    Console().print(table)


def _show_figures(console: Console, figures: Mapping[str, Any], title: str) -> None:
    if not figures:
        return
    table = Table("figure", "value", "meaning", title=title, title_justify="left")
    for key, (name, meaning) in PLAIN_WORDS.items():
        if figures.get(key) is not None:
            table.add_row(name, number(figures[key]), meaning)
    if figures.get("seconds"):
        table.add_row("seconds", number(sum(figures["seconds"].values())), "in all")
    console.print(table)
    if figures.get("worst_words"):
        worst = ", ".join(f"{word} {damage:.3f}" for word, damage in figures["worst_words"][:5])
        console.print(f"most damaged words: {escape(worst)}")


def _show_gate(console: Console, gate: Mapping[str, Any]) -> None:
    """Its threshold, and what it lets through."""
    table = Table("figure", "value", "meaning", title="What the gate does", title_justify="left")
    table.add_row("threshold", number(gate["tau"]), f"from {gate['n']} captions; opens for at most {gate['eps']:.2%}")
    for name, meaning in (("untouched", "share of held-out neutral captions"), ("opened", "share of what asks for it")):
        share = gate[name]
        value = f"{share['value']:.2%} ({share['low']:.2%} to {share['high']:.2%})"
        table.add_row(name, value, f"{meaning}, {share['count']} prompts")
    table.add_row("milliseconds", number(gate["milliseconds"]), "a prompt, once it is encoded")
    console.print(table)
    if gate["missed"]:
        console.print(f"asks for it, and does not open the gate: {escape(', '.join(gate['missed']))}")


def show_model(described: Mapping[str, Any]) -> None:
    console = Console()
    console.print(f"[bold]{described['name']}[/]  {described['summary']}")
    for key in ("concepts", "styles", "backgrounds", "hypernyms", "roles"):
        names = list(described[key])
        console.print(f"  {key} ({len(names)}): {', '.join(names)}")


def show_families(families: Sequence[Family], support: Sequence[Support]) -> None:
    """What works with each, then one row a rule."""
    console = Console()
    console.width = max(console.width, 140)
    works = Table("family", "model", "erase", "draw", "compare", "evaluate", "refine", "invert", "export")
    for row in support:
        drawn = [_dot(row.draw)] * 3
        trained = _dot(row.refine), _dot(row.invert)
        works.add_row(row.family, row.title, _dot(row.erase), *drawn, *trained, ", ".join(row.formats))
    console.print(works)
    table = Table("family", "released", "reads", "projections", "in → out", "modules", "kind", "bias")
    for family in families:
        for n, rule in enumerate(family.rules):
            name, title = (family.name, family.released) if n == 0 else ("", "")
            sizes = f"{rule.width} → {'/'.join(str(out) for out in rule.out)}"
            bias = "yes" if rule.bias else "no"
            table.add_row(name, title, rule.stream, escape(rule.label), sizes, str(rule.count), rule.kind, bias)
    console.print(table)
    console.print("Never edited, although the name suggests it:")
    for family in families:
        for refused in family.refused:
            console.print(escape(f"  {family.name}: {refused.label}: {refused.why}"))


def _dot(works: bool) -> str:
    return "●" if works else ""


def _pairs(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return list(record.get("concepts", [])), list(record.get("guides", []))


def _shown(guide: str) -> str:
    return "nothing" if not guide.strip() else guide


def show_sensitivity(sensitivity: Sensitivity, out: Path | None, most: int = 15) -> None:
    """The most sensitive words, the time it took, and whether damage and δ agree."""
    console = Console()
    deltas = {delta.word: delta for delta in sensitivity.deltas}
    ranked = sensitivity.damage.ranked()
    table = Table("word", "damage", *(["δ measured", "95 % interval"] if deltas else []))
    for word, damage in [*sensitivity.erased.ranked(), *ranked[:most]]:
        row = [escape(word) + (" (erased)" if word in sensitivity.erased.words else ""), f"{damage:.4f}"]
        if word in deltas:
            estimate = deltas[word].estimate
            row += [f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"]
        table.add_row(*row)
    console.print(table)
    mean = sum(value for _, value in ranked) / len(ranked)
    console.print(f"{len(ranked)} words: mean damage {mean:.4f}, worst {ranked[0][1]:.4f} ({escape(ranked[0][0])})")
    damage = sensitivity.damage
    console.print(
        f"damage of all words: {1000 * damage.seconds:.1f} ms, after encoding them: {damage.seconds_to_encode:.2f} s"
    )
    correlation = sensitivity.correlation
    if correlation is not None:
        text = f"Spearman's ρ of damage and δ ({sensitivity.score}): {correlation}, {correlation.count} words"
        console.print(escape(text))
    if out is not None:
        print(f"plot: {out}")


def show_graph(graph: ConceptGraph, out: Path, most: int = 12) -> None:
    """The strongest edges."""
    from editkit.report.charts.network import strongest

    console = Console()
    table = Table("erased", "suffers", "damage" if graph.deltas is None else "δ measured")
    for i, j, value in sorted(strongest(graph.shown), key=lambda edge: -edge[2])[:most]:
        table.add_row(escape(graph.concepts[i]), escape(graph.concepts[j]), f"{value:.4f}")
    console.print(table)
    console.print(f"{len(graph.concepts)} edits made and measured in closed form: {graph.seconds:.1f} s")
    if graph.correlation is not None:
        text = f"Spearman's ρ of damage and δ ({graph.score}): {graph.correlation}, {graph.correlation.count} pairs"
        console.print(escape(text))
    print(f"graph: {out}")
