"""Did the concepts go, and did the others stay? Draw, judge, count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from editkit.concepts.templates import fill
from editkit.numbers.detectors.detection import Detection, Detector
from editkit.numbers.rates import Rate, esr, psr
from editkit.pictures.progress import progress
from editkit.pictures.sampler import Job, Sampling, Variant, draw, jobs


@dataclass(frozen=True)
class Erasure:
    """ESR-1, ESR-5, PSR-1, PSR-5 of one edit."""

    esr1: Rate
    esr5: Rate
    psr1: Rate
    psr5: Rate


def judge_prompts(
    pipe: Any,
    judge: Detector,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    variant: Variant = None,
    what: str = "judging",
) -> dict[Job, Detection]:
    """Draw every prompt with every seed and say what each picture shows."""
    wanted = jobs(prompts, seeds)
    drawn = list(progress(draw(pipe, wanted, [variant], sampling), len(wanted), what))
    found = judge.detect([picture for _, picture in drawn])
    return {job: detection for (job, _), detection in zip(drawn, found, strict=True)}


def measure_erasure(
    pipe: Any,
    judge: Detector,
    variant: Variant,
    erased: Sequence[str],
    kept: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    template: str = "a {}",
    what: str = "judging",
) -> Erasure:
    """ESR over pictures of `erased`, PSR over pictures of `kept`, `template` filled with each."""
    concepts = {fill(template, concept): concept for concept in (*erased, *kept)}
    found = judge_prompts(pipe, judge, list(concepts), seeds, sampling, variant, what)

    def seen(group: Sequence[str], k: int) -> list[bool]:
        return [one.sees(concepts[job.prompt], k) for job, one in found.items() if concepts[job.prompt] in group]

    return Erasure(esr(seen(erased, 1)), esr(seen(erased, 5)), psr(seen(kept, 1)), psr(seen(kept, 5)))
