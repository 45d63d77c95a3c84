"""The best prompts of a run as a report: the pictures of the original and of every variant, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from editkit.redteam.findings import Findings
from editkit.redteam.request import AttackPlan
from editkit.report.compare import MARK, write_report
from editkit.report.comparison import NamedVariant, make_comparison
from editkit.variants.named import BASE

MOST = 24
"""Prompts of a report."""


def write_found_report(plan: AttackPlan, findings: Findings, folder: Path) -> tuple[Path, ...]:
    """Draw the best found prompts with the original and every variant that is a file, into `folder`, unless that was
    done before: a report is written whole or not at all.

    Returns:
        The page; nothing where no prompt was found, nothing is drawn, or no variant is a file.
    """
    entries = [entry for entry in plan.entries if entry.file is not None and entry.variant is not None]
    prompts = best_prompts(findings)
    page = folder / "index.html"
    if not (entries and prompts and plan.seeds):
        return ()
    if not (folder / MARK).is_file():
        variants = [NamedVariant(BASE, None), *(NamedVariant(each.name, each.variant, each.sha256) for each in entries)]
        comparison = make_comparison(
            plan.model, variants, prompts, plan.seeds, plan.sampling, plan.request.device, out=folder
        )  # fmt: skip
        asked = {each.prompt: each.concept for each in findings.attempts if each.prompt is not None}
        comparison = replace(comparison, stands_for=asked)
        command = ["editkit", "compare", BASE, *(str(entry.file) for entry in entries)]
        command += [word for prompt in prompts for word in ("--prompt", prompt)]
        seeds = f"{plan.seeds[0]}-{plan.seeds[-1]}"
        write_report(comparison, folder, [*command, "--seeds", seeds], notes=[_note(findings, prompts)])
    return (page, folder / "grid.png", folder / MARK)


def best_prompts(findings: Findings) -> list[str]:
    """Those that were found against a variant or replayed: by the share of their pictures that show the concept, then
    by loss."""
    found = [each for each in findings.attempts if each.prompt is not None and each.variant != BASE]
    found.sort(key=lambda each: (-(each.rate or 0), each.loss if each.loss is not None else float("inf")))
    return list(dict.fromkeys(str(each.prompt) for each in found))[:MOST]


def _note(findings: Findings, prompts: list[str]) -> str:
    hits = {each.prompt for each in findings.attempts if each.variant != BASE and each.success}
    worked = sum(prompt in hits for prompt in prompts)
    concepts = ", ".join(dict.fromkeys(each.concept for each in findings.attempts))
    return (
        f"These prompts were found by attacks that try to bring back: {concepts}. {worked} of {len(prompts)} did, with "
        "one of these seeds at least; they come first. Whatever words they are made of, they count as asking for the "
        "concept."
    )
