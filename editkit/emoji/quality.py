"""How well the bundled model draws, by the judge: `python -m editkit.emoji.quality`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit.concepts.templates import fill
from editkit.drawing.grid import grid
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampler import Job, Sampling, draw, jobs
from editkit.emoji.catalogue import catalogue
from editkit.emoji.judge import EmojiJudge
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.statistics.rates import rate
from editkit.model.checkpoints.source import find
from editkit.progress import progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-7")
    parser.add_argument("--out", type=Path, default=find("emoji").path.parent / "quality.json")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet of 100 concepts")
    given = parser.parse_args()
    source = find("emoji")
    denoiser, sampling = open_denoiser(source), Sampling.for_model(source)
    if given.sheet:
        contact_sheet(denoiser, sampling).save(given.sheet)
    figures = measure_quality(denoiser, EmojiJudge(), parse_seeds(given.seeds), sampling)
    given.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps({name: value for name, value in figures.items() if name != "per_concept"}, indent=2))


def measure_quality(
    denoiser: Denoiser, judge: Detector, seeds: Sequence[int], sampling: Sampling, every: int = 1
) -> dict[str, Any]:
    """Top-1 of "a X" per concept, style, background and hypernym accuracy, share of women per role, seconds.

    Args:
        every: look at each so-manieth concept alone.
    """
    known = catalogue()

    def judged(prompts: Sequence[str], what: str) -> dict[Job, Detection]:
        return _judged(denoiser, judge, prompts, seeds, sampling, what=what)

    plain = judged([fill("a {}", name) for name in known.concepts[::every]], "concepts")
    per_concept = {
        name: rate([detection.sees(name) for job, detection in plain.items() if job.prompt == fill("a {}", name)]).value
        for name in known.concepts[::every]
    }
    some = known.objects[:: 6 * every]
    styles = {fill("a {}", word) + f" in the style of {style}": style for word in some for style in known.styles}
    colours = {
        fill("a {}", word) + f" on a {colour} background": colour for word in some[::3] for colour in known.backgrounds
    }
    styled, coloured = judged(list(styles), "styles"), judged(list(colours), "backgrounds")
    groups = judged([fill("a {}", name) for name in known.hypernyms], "hypernyms")
    members = {fill("a {}", name): names for name, names in known.hypernyms.items()}
    asked = [role for role in known.roles if role in per_concept]
    roles = {fill("a {}", role): role for role in asked}
    gendered = {f"a {gender} {role}": gender for role in asked for gender in ("man", "woman")}
    exact = judged(list(gendered), "roles")
    start = time.perf_counter()
    list(draw(denoiser, jobs(["a church"], range(8)), sampling=sampling))
    return {
        "seeds": list(seeds),
        "top1_mean": statistics.mean(per_concept.values()),
        "share_of_concepts_at_60_percent": statistics.mean(value >= 0.6 for value in per_concept.values()),
        "style": share(styled, "style", styles),
        "background": share(coloured, "background", colours),
        "hypernym": rate([detection.sees(members[job.prompt]) for job, detection in groups.items()]).value,
        "gender_named": share(exact, "gender", gendered),
        "women_unnamed": {
            role: share(
                {job: detection for job, detection in plain.items() if job.prompt == prompt},
                "gender",
                {prompt: "woman"},
            )
            for prompt, role in roles.items()
        },
        "seconds_for_8_pictures": round(time.perf_counter() - start, 2),
        "per_concept": per_concept,
    }


def share(detections: Mapping[Job, Detection], attribute: str, wanted: Mapping[str, str]) -> float:
    """How many of the pictures have the attribute that is wanted of their prompt."""
    return rate([detection.attributes[attribute] == wanted[job.prompt] for job, detection in detections.items()]).value


def _judged(
    denoiser: Denoiser,
    judge: Detector,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    what: str,
) -> dict[Job, Detection]:
    """Draw every prompt with every seed and say what each picture shows."""
    wanted = jobs(prompts, seeds)
    drawn = list(progress(draw(denoiser, wanted, sampling=sampling), len(wanted), what))
    detections = judge.detect([picture for _, picture in drawn])
    return {job: detection for (job, _), detection in zip(drawn, detections, strict=True)}


def contact_sheet(denoiser: Denoiser, sampling: Sampling, across: int = 20, seed: int = 0) -> Any:
    """One picture each of 100 concepts, evenly from the catalogue."""
    names = catalogue().concepts
    chosen = [names[int(i * len(names) / 100)] for i in range(100)]
    wanted = jobs([fill("a {}", name) for name in chosen], [seed])
    pictures = [picture for _, picture in draw(denoiser, wanted, sampling=sampling)]
    return grid([pictures[i : i + across] for i in range(0, 100, across)])


if __name__ == "__main__":
    main()
