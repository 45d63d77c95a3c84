"""Did the concepts go, and did the others stay? Counted over the pictures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editkit.emoji.meaning import meanings, named_in
from editkit.numbers.rates import Rate, esr, psr
from editkit.numbers.scores import probability
from editkit.numbers.sensitivity import Delta
from editkit.pictures.sampler import Job
from editkit.report.comparison import Comparison


@dataclass(frozen=True)
class Shares:
    """ESR-1, ESR-5 over the prompts that name an erased concept, PSR-1, PSR-5 over those that name another."""

    esr1: Rate
    esr5: Rate
    psr1: Rate
    psr5: Rate

    def as_dict(self) -> dict[str, dict[str, Any]]:
        return {name: {"hits": one.hits, "count": one.count} for name, one in vars(self).items()}


def erased_labels(record: Mapping[str, Any]) -> set[str]:
    """The judge's labels that an edit is meant to remove. An edit to something of the same name, a red rose to a blue
    one, removes none."""
    found: set[str] = set()
    for concept, guide in zip(record.get("concepts", ()), record.get("guides", ()), strict=False):
        word, becomes = named_in(concept), named_in(guide)
        found |= set(meanings().get(word or "", ())) - set(meanings().get(becomes or "", ()))
    return found


def labels_of(prompt: str) -> tuple[str, ...]:
    """What the judge should see in a picture of `prompt`; empty where the prompt names nothing that it knows."""
    return meanings().get(named_in(prompt) or "", ())


def is_erased(comparison: Comparison, variant: int, prompt: str) -> bool:
    """Whether `prompt` names a concept that the variant is meant to remove; the unedited model is held against what
    any of the edits removes."""
    edits = comparison.variants if comparison.variants[variant].edit is None else [comparison.variants[variant]]
    return any(set(labels_of(prompt)) & erased_labels(one.record) for one in edits)


def count_shares(comparison: Comparison) -> list[Shares]:
    """One entry a variant. Prompts that name nothing the judge knows are in none of the counts."""
    found = []
    for n in range(len(comparison.variants)):
        seen: dict[tuple[bool, int], list[bool]] = {(gone, k): [] for gone in (True, False) for k in (1, 5)}
        for prompt in comparison.prompts:
            labels = labels_of(prompt)
            for seed in comparison.seeds if labels else ():
                detection = comparison.detections[Job(prompt, seed, n)]
                for k in (1, 5):
                    seen[is_erased(comparison, n, prompt), k].append(detection.sees(labels, k))
        found.append(Shares(esr(seen[True, 1]), esr(seen[True, 5]), psr(seen[False, 1]), psr(seen[False, 5])))
    return found


def count_deltas(comparison: Comparison, against: int = 0) -> dict[int, list[Delta]]:
    """δ of every prompt that the judge knows: probability under variant `against` minus that under each other one."""
    known = [prompt for prompt in comparison.prompts if labels_of(prompt)]

    def value(prompt: str, seed: int, n: int) -> float:
        return probability(comparison.detections[Job(prompt, seed, n)], labels_of(prompt))

    def delta(prompt: str, n: int) -> Delta:
        return Delta(prompt, tuple(value(prompt, seed, against) - value(prompt, seed, n) for seed in comparison.seeds))

    others: Sequence[int] = [n for n in range(len(comparison.variants)) if n != against]
    return {n: [delta(prompt, n) for prompt in known] for n in others}
