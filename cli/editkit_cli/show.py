"""Print records and models, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PLAIN_WORDS = {
    "erasure_residual": ("left of the concept", "0 is fully moved to the guide, 1 is untouched"),
    "recovery_norm": (
        "recovery norm",
        "size of the cheapest embedding that undoes the edit, against the concept's own",
    ),
    "damage_mean": ("damage, mean", "relative squared change of the other words"),
    "damage_p95": ("damage, 95th percentile", ""),
    "damage_worst": ("damage, worst word", ""),
    "rank": ("rank", "directions of text embedding that the edit changes"),
    "weight_change_median": ("weight change, median layer", "‖ΔW‖ / ‖W‖"),
    "weight_change_worst": ("weight change, worst layer", ""),
    "condition": ("condition number", "above 1e12 the solution loses digits"),
}


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_record(record: Mapping[str, Any], path: Path, as_json: bool) -> None:
    """What was edited, how, and the figures."""
    if as_json:
        print_json({"file": str(path), **record})
        return
    console = Console()
    changed = ", ".join(f"{concept} → {_shown(guide)}" for concept, guide in zip(*_pairs(record), strict=True))
    options = record.get("options", {})
    console.print(
        f"model [bold]{record.get('model')}[/], {record.get('method')}, protect {options.get('protect')}: {changed}"
    )
    table = Table("figure", "value", "meaning", title="What the edit does", title_justify="left")
    figures = record.get("figures", {})
    for key, (name, meaning) in PLAIN_WORDS.items():
        if figures.get(key) is not None:
            table.add_row(name, _number(figures[key]), meaning)
    if figures.get("seconds"):
        table.add_row("seconds", _number(sum(figures["seconds"].values())), "to encode the words and to solve")
    console.print(table)
    if figures.get("worst_words"):
        worst = ", ".join(f"{word} {damage:.3f}" for word, damage in figures["worst_words"][:5])
        console.print(f"most damaged words: {worst}")
    console.print(f"edit: {path}")


def show_model(described: Mapping[str, Any]) -> None:
    console = Console()
    console.print(f"[bold]{described['name']}[/]  {described['summary']}")
    for key in ("concepts", "styles", "backgrounds", "hypernyms", "roles"):
        names = list(described[key])
        console.print(f"  {key} ({len(names)}): {', '.join(names)}")


def _pairs(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return list(record.get("concepts", [])), list(record.get("guides", []))


def _shown(guide: str) -> str:
    return "nothing" if not guide.strip() else guide


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
