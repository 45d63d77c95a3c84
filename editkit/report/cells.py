"""The pictures of a report: stored in the page, whole or as thumbnails, with what they show in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from PIL import Image

from editkit.drawing.sampler import Job
from editkit.report.comparison import Comparison
from editkit.report.drawn import is_large
from editkit.report.heat import difference, heat_map
from editkit.report.shares import is_erased

FOLDER = "pictures"
"""Where in a report large pictures are."""
THUMBNAIL, QUALITY = 256, 80
"""Pixels of the longer side of what stands for a large picture in the page, and how well WebP keeps it."""


@dataclass(frozen=True)
class Verdict:
    """What the judge sees first, and whether that is what the prompt names. `good` is None for the unedited model."""

    label: str
    percent: int
    good: bool | None


@dataclass(frozen=True)
class Cell:
    """A picture in a grid.

    Attributes:
        id: how the page's script finds it.
        source: what the cell shows, as an address that holds all of it.
        size: of that, in pixels.
        file: where the whole picture is, if the cell shows a thumbnail.
        mean: of a difference picture, in per cent.
    """

    id: str
    source: str
    alt: str
    size: tuple[int, int]
    file: str | None = None
    verdict: Verdict | None = None
    mean: float | None = None


@dataclass(frozen=True)
class PromptGrid:
    """Rows of one prompt: one a variant, then one of difference pictures for every variant but the first."""

    prompt: str
    topic: str
    rows: list[tuple[int, list[Cell]]]
    heats: list[tuple[int, list[Cell]]]


def prompt_grids(comparison: Comparison) -> Iterator[PromptGrid]:
    """One grid a prompt; a column shares its seed, and its pictures alone are in memory together."""
    every = range(len(comparison.variants))
    for p, prompt in enumerate(comparison.prompts):
        columns = [_column(comparison, p, s) for s in range(len(comparison.seeds))]
        rows = [(n, [cells[n] for cells, _ in columns]) for n in every]
        heats = [(n, [cells[n - 1] for _, cells in columns]) for n in every[1:]]
        yield PromptGrid(prompt, _topic(comparison, prompt), rows, heats)


def thumbnail(picture: Image.Image) -> tuple[str, tuple[int, int]]:
    """What stands for a picture in the page, and its size: itself without loss, if it is small, else reduced."""
    if not is_large(picture.size):
        return _address(picture, "png", optimize=True), picture.size
    reduced = picture.copy()
    reduced.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return _address(reduced, "webp", quality=QUALITY), reduced.size


def _address(picture: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _column(comparison: Comparison, p: int, s: int) -> tuple[list[Cell], list[Cell]]:
    """The pictures of a prompt and seed, and where each but the first differs from the first."""
    jobs = [Job(comparison.prompts[p], comparison.seeds[s], n) for n in range(len(comparison.variants))]
    pictures = [comparison.pictures[job] for job in jobs]
    both = list(zip(jobs, pictures, strict=True))
    cells = [_cell(comparison, job, picture, f"{p}-{s}-{job.variant}") for job, picture in both]
    heats = [_heat(comparison, job, pictures[0], picture, f"{p}-{s}-{job.variant}") for job, picture in both[1:]]
    return cells, heats


def _cell(comparison: Comparison, job: Job, picture: Image.Image, place: str) -> Cell:
    verdict = _verdict(comparison, job)
    said = "" if verdict is None else f"; the judge sees {verdict.label}, {verdict.percent} %"
    alt = f"“{job.prompt}”, seed {job.seed}, {comparison.variants[job.variant].name}{said}"
    source, size = thumbnail(picture)
    file = comparison.pictures.files.get(job)
    address = None if file is None else f"{FOLDER}/{quote(file.name)}"
    return Cell(f"p{place}", source, alt, size, address, verdict)


def _heat(comparison: Comparison, job: Job, before: Image.Image, after: Image.Image, place: str) -> Cell:
    apart = difference(before, after)
    mean = 100 * float(apart.mean())
    first, name = comparison.variants[0].name, comparison.variants[job.variant].name
    alt = f"“{job.prompt}”, seed {job.seed}: where {name} differs from {first}; {mean:.1f} % on average"
    source, size = thumbnail(heat_map(apart))
    return Cell(f"h{place}", source, alt, size, mean=mean)


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
