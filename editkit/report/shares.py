"""Did the concepts go, and did the others stay? Counted over the pictures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editkit.concepts.profile import Profile
from editkit.drawing.sampler import Job
from editkit.evaluation.scores import probability
from editkit.evaluation.sensitivity import Delta
from editkit.evaluation.statistics.intervals import Estimate, cluster_marks, rate_interval
from editkit.report.comparison import Comparison


@dataclass(frozen=True)
class Shares:
    """ESR-1, ESR-5 over the prompts that name an erased concept, PSR-1, PSR-5 over those that name another.

    Intervals are 95 % Wilson's, at the effective sample size where the pictures of a seed or prompt are alike.
    """

    esr1: Estimate
    esr5: Estimate
    psr1: Estimate
    psr5: Estimate

    def as_dict(self) -> dict[str, dict[str, Any]]:
        return {name: estimate.as_dict() for name, estimate in vars(self).items()}


def percent(estimate: Estimate) -> str:
    """For a table."""
    return (
        f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}], {estimate.count} pictures"
    )


def erased_labels(record: Mapping[str, Any], profile: Profile) -> set[str]:
    """The judge's labels that an edit is meant to remove. An edit to something of the same name, a red rose to a blue
    one, removes none."""
    labels: set[str] = set()
    for concept, guide in zip(record.get("concepts", ()), record.get("guides", ()), strict=False):
        labels |= set(profile.labels_of(concept)) - set(profile.labels_of(guide))
    return labels


def is_erased(comparison: Comparison, variant: int, prompt: str) -> bool:
    """Whether `prompt` names a concept that the variant is meant to remove; the unedited model is held against what
    any of the edits removes."""
    edits = comparison.variants if comparison.variants[variant].edit is None else [comparison.variants[variant]]
    profile = comparison.model.profile
    return any(set(comparison.labels_of(prompt)) & erased_labels(edit.record, profile) for edit in edits)


def count_shares(comparison: Comparison) -> list[Shares]:
    """One entry a variant. Prompts that name nothing the judge knows are in none of the counts."""
    return [
        Shares(_rate(comparison, n, 1, True), _rate(comparison, n, 5, True),
               _rate(comparison, n, 1, False), _rate(comparison, n, 5, False))
        for n in range(len(comparison.variants))
    ]  # fmt: skip


def _rate(comparison: Comparison, variant: int, k: int, erased: bool) -> Estimate:
    """ESR-k over the prompts of erased concepts, else PSR-k over the others."""
    labels_of = comparison.labels_of
    counted = [
        Job(prompt, seed, variant)
        for prompt in comparison.prompts
        if labels_of(prompt) and is_erased(comparison, variant, prompt) == erased
        for seed in comparison.seeds
    ]
    outcomes = [comparison.detections[job].sees(labels_of(job.prompt), k) != erased for job in counted]
    labels, prompts = [labels_of(job.prompt) for job in counted], [job.prompt for job in counted]
    _, clusters = cluster_marks(labels, prompts, [job.seed for job in counted])
    return rate_interval(outcomes, clusters)


def count_deltas(comparison: Comparison, against: int = 0) -> dict[int, list[Delta]]:
    """δ of every prompt that the judge knows: probability under variant `against` minus that under each other one."""
    labels_of = comparison.labels_of
    known = [prompt for prompt in comparison.prompts if labels_of(prompt)]

    def value(prompt: str, seed: int, n: int) -> float:
        return probability(comparison.detections[Job(prompt, seed, n)], labels_of(prompt))

    def delta(prompt: str, n: int) -> Delta:
        return Delta(prompt, tuple(value(prompt, seed, against) - value(prompt, seed, n) for seed in comparison.seeds))

    others: Sequence[int] = [n for n in range(len(comparison.variants)) if n != against]
    return {n: [delta(prompt, n) for prompt in known] for n in others}
