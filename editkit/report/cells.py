"""The pictures of a report: as data URIs, with what they show in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from editkit.drawing.sampler import Job
from editkit.report.comparison import Comparison
from editkit.report.heat import difference, heat_map
from editkit.report.shares import is_erased

LOSSLESS_UP_TO = 256
"""Pixels a side. Larger pictures would make a report of hundreds of megabytes; they are stored as WebP."""
QUALITY = 90


@dataclass(frozen=True)
class Verdict:
    """What the judge sees first, and whether that is what the prompt names. `good` is None for the unedited model."""

    label: str
    percent: int
    good: bool | None


@dataclass(frozen=True)
class Cell:
    """A picture in a grid. `id` is how the page's script finds it."""

    id: str
    source: str
    alt: str
    size: tuple[int, int]
    verdict: Verdict | None = None
    note: str = ""


@dataclass(frozen=True)
class PromptGrid:
    """Rows of one prompt: one a variant, then one of difference pictures for every variant but the first."""

    prompt: str
    topic: str
    rows: list[tuple[int, list[Cell]]]
    heats: list[tuple[int, list[Cell]]]


def prompt_grids(comparison: Comparison) -> Iterator[PromptGrid]:
    """One grid a prompt; a column shares its seed."""
    others = range(1, len(comparison.variants))
    for p, prompt in enumerate(comparison.prompts):
        rows = [(n, [_cell(comparison, p, s, n) for s in range(len(comparison.seeds))]) for n in (0, *others)]
        heats = [(n, [_heat(comparison, p, s, n) for s in range(len(comparison.seeds))]) for n in others]
        yield PromptGrid(prompt, _topic(comparison, prompt), rows, heats)


def data_uri(picture: Image.Image) -> str:
    """The picture itself as an address: PNG, or WebP for large ones."""
    small = max(picture.size) <= LOSSLESS_UP_TO
    stream = io.BytesIO()
    if small:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "WEBP", quality=QUALITY)
    return f"data:image/{'png' if small else 'webp'};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _cell(comparison: Comparison, p: int, s: int, n: int) -> Cell:
    prompt, seed, name = comparison.prompts[p], comparison.seeds[s], comparison.variants[n].name
    job = Job(prompt, seed, n)
    verdict = _verdict(comparison, job)
    said = "" if verdict is None else f"; the judge sees {verdict.label}, {verdict.percent} %"
    picture = comparison.pictures[job]
    return Cell(f"p{p}-{s}-{n}", data_uri(picture), f"“{prompt}”, seed {seed}, {name}{said}", picture.size, verdict)


def _heat(comparison: Comparison, p: int, s: int, n: int) -> Cell:
    prompt, seed = comparison.prompts[p], comparison.seeds[s]
    pair = comparison.pictures[Job(prompt, seed, 0)], comparison.pictures[Job(prompt, seed, n)]
    mean = 100 * difference(*pair).mean()
    first, name = comparison.variants[0].name, comparison.variants[n].name
    alt = f"“{prompt}”, seed {seed}: where {name} differs from {first}; {mean:.1f} % on average"
    return Cell(f"h{p}-{s}-{n}", data_uri(heat_map(*pair)), alt, pair[0].size, note=f"{mean:.1f} %")


def _verdict(comparison: Comparison, job: Job) -> Verdict | None:
    detection = comparison.detections.get(job)
    if detection is None:
        return None
    if detection.error is not None:
        return Verdict("not judged", 0, None)
    labels = comparison.labels_of(job.prompt)
    is_seen = bool(labels) and detection.sees(labels)
    edited = comparison.variants[job.variant].edit is not None
    good = is_seen != is_erased(comparison, job.variant, job.prompt) if edited and labels else None
    return Verdict(detection.labels[0], round(100 * detection.scores[0]), good)


def _topic(comparison: Comparison, prompt: str) -> str:
    if not comparison.detections or not comparison.labels_of(prompt):
        concepts = [concept for concept in comparison.erased() if concept.lower() in prompt.lower()]
        return "erased" if concepts else ""
    return "erased" if any(is_erased(comparison, n, prompt) for n in range(len(comparison.variants))) else "kept"
