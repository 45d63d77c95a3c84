"""The tables of a report: the edits' figures, how they were made, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editkit.report.comparison import Comparison, NamedVariant
from editkit.report.figure_names import PLAIN_WORDS, number
from editkit.versions import RESULTS, versions


@dataclass(frozen=True)
class Line:
    """A row of a table: a name, what it means, and one value a column."""

    name: str
    meaning: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def figure_lines(edits: Sequence[NamedVariant]) -> list[Line]:
    """The figures of the edits' records, one column an edit; those that no edit has are left out."""
    every = [edit.record.get("figures", {}) for edit in edits]
    lines = [
        Line(name, meaning, tuple(_shown(figures.get(key)) for figures in every))
        for key, (name, meaning) in PLAIN_WORDS.items()
        if any(figures.get(key) is not None for figures in every)
    ]
    seconds = [sum(figures.get("seconds", {}).values()) for figures in every]
    if any(seconds):
        lines.append(
            Line("seconds", "to encode the words and to solve", tuple(_shown(total or None) for total in seconds))
        )
    return lines


def option_lines(edits: Sequence[NamedVariant]) -> list[Line]:
    """What was asked for and with which hyper-parameters; differing values are what a reader looks for."""
    records = [edit.record for edit in edits]
    asked: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = [
        ("method", lambda record: record.get("method")),
        ("changed", _changed),
        ("preserved prompts", lambda record: ", ".join(record.get("preserve", ())) or None),
        ("scale", lambda record: record.get("scale")),
    ]
    names = dict.fromkeys(name for record in records for name in record.get("options", {}) if name != "method")
    asked += [(name, lambda record, name=name: record.get("options", {}).get(name)) for name in names]
    lines = [Line(name, "", tuple(_shown(get(record)) for record in records)) for name, get in asked]
    return [line for line in lines if set(line.values) != {"–"}]


def file_lines(edits: Sequence[NamedVariant]) -> list[Line]:
    """Hashes, and when and with which versions the edits were made."""
    records = [edit.record for edit in edits]
    lines = [Line("edit file", "SHA-256", tuple(_shown(edit.sha256) for edit in edits))]
    for key, name in (("text_encoder_sha256", "text encoder"), ("projections_sha256", "projections")):
        lines.append(Line(name, "SHA-256", tuple(_shown(record.get(key)) for record in records)))
    lines.append(Line("made", "", tuple(_shown(record.get("created")) for record in records)))
    made_with = [
        ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()) for record in records
    ]
    lines.append(Line("made with", "", tuple(_shown(listed or None) for listed in made_with)))
    return [line for line in lines if set(line.values) != {"–"}]


def drawing_lines(comparison: Comparison) -> list[Line]:
    """Model, seeds, sampler and versions of this report."""
    source, model = comparison.model.source, comparison.model
    sampling = {name: value for name, value in comparison.sampling.record.items() if value is not None}
    lines = {
        "model": source.name,
        "family": source.family.name,
        "text encoder SHA-256": model.text_encoder_sha256,
        "projections SHA-256": model.projections_sha256,
        "seeds": ", ".join(str(seed) for seed in comparison.seeds),
        **{name: "none" if value == "" else value for name, value in sampling.items()},
        "initial noise": "one CPU generator a seed, the same for every variant",
        "judge": "emoji-judge" if comparison.detections else None,
        "versions": ", ".join(f"{name} {version}" for name, version in versions(RESULTS).items()),
    }
    return [Line(name, "", (_shown(value),)) for name, value in lines.items() if value is not None]


def _changed(record: Mapping[str, Any]) -> str | None:
    pairs = zip(record.get("concepts", ()), record.get("guides", ()), strict=False)
    return ", ".join(f"{concept} → {guide if guide.strip() else 'nothing'}" for concept, guide in pairs) or None


def _shown(value: Any) -> str:
    return "–" if value is None else number(value)
