"""What an evaluation found: `results.json` for people and programs, `pictures.parquet` with one row a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.judging import Judgement
from editkit.evaluation.metrics.metric import Metric
from editkit.evaluation.plan import Plan
from editkit.evaluation.statistics.intervals import Estimate
from editkit.evaluation.summary import Pictures, difference
from editkit.files.atomic import write_atomic, write_text_atomic

FORMAT_VERSION = 1
RESULTS, PARQUET = "results.json", "pictures.parquet"
KEYS = ("case_number", "prompt", "seed", "class", "role")
"""What names a picture in both of two results."""


@dataclass(frozen=True)
class Results:
    """The contents of a `results.json`, and the folder that it is in."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def variants(self) -> list[str]:
        return [variant["name"] for variant in self.record["variants"]]

    def value(self, metric: str, variant: str, label: str | None = None) -> Estimate:
        """A metric of a variant, over all pictures or of one class."""
        estimates = self.record["metrics"][metric]["variants"][variant]
        stored = estimates["all"] if label is None else estimates["classes"][label]
        return Estimate.from_dict(stored)


def read_results(path: Path) -> Results:
    """A `results.json`, or the folder that holds one.

    Raises:
        EditkitError: it is not there, or not one.
    """
    path = path / RESULTS if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditkitError(
            f"{path}: expected the {RESULTS} of an evaluation, but it cannot be read "
            f"({getattr(error, 'strerror', None) or error}); give the --out of `editkit evaluate`"
        ) from error
    if not isinstance(record, dict) or not {"format_version", "protocol", "variants", "metrics"} <= record.keys():
        raise EditkitError(f"{path}: expected the {RESULTS} of an evaluation, this is other JSON")
    if record["format_version"] != FORMAT_VERSION:
        raise EditkitError(
            f"{path}: format version {record['format_version']}, expected {FORMAT_VERSION}; evaluate again"
        )
    return Results(path.parent, record)


def write_results(results: Results) -> None:
    text = json.dumps(results.record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text_atomic(results.folder / RESULTS, text, force=True)


def write_pictures(folder: Path, plan: Plan, judged: Mapping[str, Judgement]) -> None:
    """One row a picture and variant: what was asked, what was seen first, every metric's number."""
    import pyarrow as pa
    from pyarrow import parquet

    asked = list(plan)
    tables = []
    names = sorted({name for judgement in judged.values() for said in judgement.attributes for name in said})
    for variant, mine in judged.items():
        columns: dict[str, Any] = {
            "variant": pa.array([variant] * len(asked), pa.string()),
            "case_number": pa.array([case.case_number for case in asked], pa.string()),
            "prompt": pa.array([case.prompt for case in asked], pa.string()),
            "seed": pa.array([case.seed for case in asked], pa.int64()),
            "class": pa.array([case.label for case in asked], pa.string()),
            "role": pa.array([case.role for case in asked], pa.string()),
            "picture": pa.array([f"pictures/{variant}/{case.file}" for case in asked], pa.string()),
            "label": pa.array([label for label, _ in mine.tops], pa.string()),
            "score": pa.array([score for _, score in mine.tops], pa.float64()),
            "error": pa.array(mine.errors, pa.string()),
        }
        for name in names:
            columns[name] = pa.array([said.get(name) for said in mine.attributes], pa.string())
        for name, numbers in mine.numbers.items():
            columns[name] = pa.array(numbers, pa.float64())
        tables.append(pa.table(columns))
    write_atomic(folder / PARQUET, lambda part: parquet.write_table(pa.concat_tables(tables), part), force=True)


def compare_results(
    mine: Results, other: Results, metrics: Sequence[Metric], force: bool = False
) -> list[dict[str, Any]]:
    """Paired differences from every variant of `other` to every one of `mine`; `from` is named `other:VARIANT`.

    Raises:
        EditkitError: they were made otherwise and `force` is not given, or they have no picture in common.
    """
    if not force:
        check_comparable(other, mine.record["protocol"])
    before, now = _rows(other), _rows(mine)
    shared = [key for key in now[mine.variants[0]] if key in before[other.variants[0]]]
    if not shared:
        raise EditkitError(f"{other.folder / RESULTS}: no prompt and seed in common; give a result of the same suite")
    _, prompts, seeds, labels, roles = zip(*shared, strict=True)
    pictures = Pictures.of(labels, roles, prompts, seeds)
    differences = []
    for first, theirs in before.items():
        for second, own in now.items():
            for metric in metrics:
                if metric.name in other.record["metrics"]:
                    old, new = ([rows[key].get(metric.name) for key in shared] for rows in (theirs, own))
                    compared = difference(metric, old, new, pictures)
                    if compared is not None:
                        differences.append({"metric": metric.name, "from": f"other:{first}", "to": second, **compared})
    return differences


def check_comparable(other: Results, protocol: Mapping[str, Any]) -> None:
    """Refuse a result that was made otherwise.

    Raises:
        EditkitError: it names the first difference with both values, and the others.
    """
    unlike = [
        (name, before, now)
        for name, before, now in differing(other.record["protocol"], json.loads(json.dumps(protocol)))
        if not (name.startswith("checkpoints.") and None in (before, now))  # a metric that only one of them has
        if not (name == "profile" and None in (before, now))  # results did not always name it
        if name != "profile.name"
    ]
    if not unlike:
        return
    name, before, now = unlike[0]
    more = f" (also differs: {', '.join(name for name, *_ in unlike[1:])})" if unlike[1:] else ""
    raise EditkitError(
        f"{other.folder / RESULTS}: made with {name} {before!r}, this one with {now!r}{more}; evaluate both alike, or "
        "--force the comparison"
    )


def differing(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The entries in which two protocols differ, by dotted name."""
    entries: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*before, *now]):
        a, b = before.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            entries += differing(a, b, f"{prefix}{name}.")
        elif a != b:
            entries.append((f"{prefix}{name}", a, b))
    return entries


def _rows(results: Results) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """Variant → picture → its row."""
    from pyarrow import parquet

    path = results.folder / PARQUET
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise EditkitError(f"{path}: cannot be read ({error}); it belongs beside {RESULTS}, evaluate again") from error
    by_variant: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in results.variants}
    for row in rows:
        by_variant[row["variant"]][tuple(row[name] for name in KEYS)] = row
    return by_variant
