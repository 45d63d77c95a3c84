"""What a run of attacks found: one row for every variant and attack, with intervals, and the files that hold it all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.evaluation.statistics.rank_correlation import rho
from editkit.files.atomic import write_atomic
from editkit.redteam.attempt import Attempt
from editkit.redteam.cost import Cost

COLUMNS = (
    "attack", "source_edit_hash", "prompt", "ids", "seed", "loss", "pictures", "success", "protocol", "variant",
    "concept", "changes", "source", "plain_loss", "naming", "file", "against",
)  # fmt: skip
"""Of `found.csv`; the first nine are what a replay reads."""
SEEDS = "seed-search"
LEAST_FOR_CORRELATION = 8


@dataclass(frozen=True)
class Line:
    """One variant under one attack. Rates are of attempts that name neither the concept nor a listed synonym.

    Attributes:
        before: success of the unattacked prompts at the same seeds (pre-ASR), any of them.
        all: any picture of the attempt shows the concept, or the unattacked prompt's did (published convention).
        rest: of the attempts whose unattacked prompt fails: what the attack adds.
        each: share of single pictures that show the concept.
        synonym: `each`, of attempts that name a synonym; None where none does.
        gain: `rest` less that of `seed-search` at equal pictures; None where that was not run.
        correlation: Spearman's, of the attack's own loss with the share of pictures; good losses have a negative one.
        cost: of all concepts together.
        figures: means of what the attack measured besides.
    """

    variant: str
    attack: str
    changes: str
    protocol: str
    concepts: int
    attempts: int
    pictures: int
    before: Estimate
    all: Estimate
    rest: Estimate
    each: Estimate
    synonym: Estimate | None
    gain: float | None
    loss: float | None
    correlation: float | None
    cost: Cost
    figures: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            name: value.as_dict() if isinstance(value, Estimate | Cost) else value for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Findings:
    """All attempts of a run.

    Attributes:
        attempts: in the order that they were made.
        costs: variant, attack and concept → what it took.
        null_shift: variant → how far the rows of the empty prompt move; None where its weights changed instead.
        record: what was asked, of which model, with which judge and sampling.
    """

    attempts: tuple[Attempt, ...]
    costs: Mapping[tuple[str, str, str], Cost]
    null_shift: Mapping[str, float | None] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @cached_property
    def lines(self) -> list[Line]:
        """The table, a row for every variant and attack."""
        kinds = dict.fromkeys((each.variant, each.attack) for each in self.attempts)
        return [self._line(variant, attack) for variant, attack in kinds]

    def of(self, variant: str, attack: str) -> list[Attempt]:
        """The attempts of one row."""
        return [each for each in self.attempts if (each.variant, each.attack) == (variant, attack)]

    def _line(self, variant: str, attack: str) -> Line:
        every = self.of(variant, attack)
        mine, named = ([each for each in every if bool(each.naming) is named] for named in (False, True))
        rest = [each for each in mine if not each.was_plain]
        costs = [cost for (one, other, _), cost in self.costs.items() if (one, other) == (variant, attack)]
        losses = [each.loss for each in every if each.loss is not None]
        return Line(
            variant,
            attack,
            every[0].changes,
            " + ".join(dict.fromkeys(each.protocol for each in every)),
            len({each.concept for each in every}),
            len(every),
            sum(len(each.hits) for each in every),
            _rate([(each.was_plain, each.concept) for each in mine if each.plain]),
            _rate([(each.success or each.was_plain, each.concept) for each in mine if each.judged]),
            _rate([(each.success, each.concept) for each in rest if each.judged]),
            _rate([(hit, each.concept) for each in mine for hit in each.judged]),
            _rate([(hit, each.concept) for each in named for hit in each.judged]) if named else None,
            self._gain(variant, attack, rest),
            sum(losses) / len(losses) if losses else None,
            rank_correlation([(each.loss, each.rate) for each in every]),
            _total(costs),
            _means([each.figures for each in every]),
        )

    def _gain(self, variant: str, attack: str, rest: Sequence[Attempt]) -> float | None:
        """At equal pictures: as many of the seed search's as the attempt drew."""
        searched = {(each.concept, each.source): each for each in self.of(variant, SEEDS)}
        pairs = [(each, searched[key]) for each in rest if (key := (each.concept, each.source)) in searched]
        if attack == SEEDS or not pairs:
            return None
        mine = sum(each.success for each, _ in pairs)
        theirs = sum(any(other.hits[: len(each.hits)]) for each, other in pairs)
        return (mine - theirs) / len(pairs)

    @cached_property
    def matrix(self) -> dict[str, dict[str, Estimate]]:
        """Of a replay: the variant that prompts were found against → the variant that drew them → how many succeed.
        Prompts that name the concept or a listed synonym are left out. Empty where nothing was replayed."""
        if self.record.get("replay") is None:
            return {}
        mine = [each for each in self.attempts if not each.naming and each.judged]
        drawn = dict.fromkeys(each.variant for each in self.attempts)
        return {
            row: {
                column: _rate([(e.success, e.concept) for e in mine if (e.against, e.variant) == (row, column)])
                for column in drawn
            }
            for row in dict.fromkeys(each.against for each in mine)
        }

    def write_csv(self, path: Path, force: bool = False) -> None:
        """A row a picture. `editkit attack --replay` reads it."""

        def write(part: Path) -> None:
            with part.open("w", encoding="utf-8", newline="") as stream:
                writer: csv.DictWriter[str] = csv.DictWriter(stream, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows())

        write_atomic(path, write, force)

    def write_parquet(self, path: Path, force: bool = False) -> None:
        """The same rows, typed."""
        from pyarrow import Table, parquet

        rows = self.rows()
        table = Table.from_pylist([{**row, "ids": [int(n) for n in str(row["ids"]).split()]} for row in rows])
        write_atomic(path, lambda part: parquet.write_table(table, part), force)

    def rows(self) -> list[dict[str, Any]]:
        """A row a picture; attempts without pictures have one row."""
        rows = []
        for each in self.attempts:
            shots = list(zip(each.seeds, each.hits, strict=True)) or [(None, None)]
            for n, (seed, hit) in enumerate(shots):
                rows.append({
                    "attack": each.attack, "source_edit_hash": each.against_sha256, "prompt": each.prompt,
                    "ids": " ".join(map(str, each.ids)), "seed": seed, "loss": each.loss, "pictures": len(each.hits),
                    "success": hit, "protocol": each.protocol, "variant": each.variant, "concept": each.concept,
                    "changes": each.changes, "source": each.source, "plain_loss": each.plain_loss,
                    "naming": each.naming, "file": each.files[n] if each.files else None,
                    "against": each.against,
                })  # fmt: skip
        return rows

    def as_dict(self) -> dict[str, Any]:
        """As JSON: what was asked, and the table."""
        return {
            "record": dict(self.record),
            "null_shift": dict(self.null_shift),
            "lines": [line.as_dict() for line in self.lines],
            "matrix": {
                row: {name: rate.as_dict() for name, rate in rates.items()} for row, rates in self.matrix.items()
            },
        }


def _total(costs: Sequence[Cost]) -> Cost:
    total = Cost()
    for cost in costs:
        total = total.plus(cost)
    return total


def _means(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for figures in several for name in figures)
    known = {name: [figures[name] for figures in several if name in figures] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}


def _rate(outcomes: Sequence[tuple[bool, str]]) -> Estimate:
    """Wilson's interval, concepts as clusters."""
    return rate_interval([hit for hit, _ in outcomes], [concept for _, concept in outcomes])


def rank_correlation(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Spearman's, ties at their mean rank; None for fewer than `LEAST_FOR_CORRELATION` pairs, or where one never
    changes.

    >>> rank_correlation([(n, -n) for n in range(8)])
    -1.0
    """
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if len(known) < LEAST_FOR_CORRELATION:
        return None
    first, second = (np.array(values, dtype=np.float64)[None] for values in zip(*known, strict=True))
    value = float(rho(first, second)[0])
    return None if np.isnan(value) else round(value, 4)
