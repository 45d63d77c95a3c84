"""Draws the concepts that are balanced and lets a judge count; what was drawn once is remembered, also on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from editkit.balancing.judge import shows
from editkit.balancing.loop import Weights
from editkit.balancing.shares import Tally
from editkit.concepts.attributes import Attribute
from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, draw
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.progress import progress

CHUNK = 64
"""Pictures that are judged at a time, and lost at most when a run is interrupted."""


@dataclass
class Gallery:
    """Pictures of concepts, one template each.

    Attributes:
        edit: weights → the edit.
        labels: concept → what the judge calls it; empty where nobody knows.
        pictures_of: what a picture of the unedited model depends on, and what is seen in it.
        protocol: what an edit depends on beside its weights.
        kept: where counts are remembered; a run that is started again reads them. None: nowhere.
    """

    denoiser: Denoiser
    judge: Detector
    sampling: Sampling
    attributes: Sequence[Attribute]
    template: str
    labels: Mapping[str, Sequence[str]]
    edit: Callable[[Weights], Edit]
    kept: Path | None = None
    pictures_of: str = ""
    protocol: str = ""
    drawn: int = 0
    _known: dict[str, dict[int, tuple[tuple[bool, ...], bool, bool]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept is not None and self.kept.exists():
            for line in self.kept.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def observe(self, concepts: Sequence[str], weights: Weights, seeds: Sequence[int]) -> dict[str, Tally]:
        """See `editkit.balancing.loop.Observe`."""
        marks = {concept: self._mark(concept, weights) for concept in concepts}
        jobs = [
            (concept, Job(fill(self.template, concept), seed))
            for concept in concepts
            for seed in seeds
            if seed not in self._known.setdefault(marks[concept], {})
        ]
        if jobs:
            is_plain = not any(bool(some.any()) for some in weights.values())
            self._draw(jobs, None if is_plain else self.edit(weights), marks)
        return {concept: self._tally(marks[concept], seeds, bool(self.labels[concept])) for concept in concepts}

    def _draw(self, jobs: Sequence[tuple[str, Job]], edit: Edit | None, marks: Mapping[str, str]) -> None:
        what = f"{len({concept for concept, _ in jobs})} concepts"
        waiting = progress(draw(self.denoiser, (job for _, job in jobs), [edit], self.sampling), len(jobs), what)
        some = []
        for n, ((concept, job), (_, picture)) in enumerate(zip(jobs, waiting, strict=True), 1):
            some.append((concept, job, picture))
            if len(some) < CHUNK and n < len(jobs):
                continue
            said = self.judge.detect([each[2] for each in some])
            if len(said) != len(some):
                raise EditkitError(
                    f"detector {self.judge.name}: expected {len(some)} detections, one a picture, got {len(said)}"
                )
            for (name, asked, _), detection in zip(some, said, strict=True):
                self._note(marks[name], asked.seed, name, detection)
            self.drawn += len(some)
            some = []

    def _note(self, mark: str, seed: int, concept: str, detection: Detection) -> None:
        failed = detection.error is not None
        has = tuple(not failed and shows(detection, attribute) for attribute in self.attributes)
        stays = not failed and bool(self.labels[concept]) and detection.sees(self.labels[concept])
        self._known[mark][seed] = (has, stays, failed)
        if self.kept is not None:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            with self.kept.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([mark, seed, [int(each) for each in has], int(stays), int(failed)]) + "\n")

    def _read(self, line: str) -> None:
        try:
            mark, seed, has, stays, failed = json.loads(line)
        except ValueError:  # the last line of a run that was stopped while it wrote
            return
        self._known.setdefault(mark, {})[seed] = (tuple(map(bool, has)), bool(stays), bool(failed))

    def _tally(self, mark: str, seeds: Sequence[int], is_named: bool) -> Tally:
        seen = [self._known[mark][seed] for seed in seeds]
        judged = [(has, stays) for has, stays, failed in seen if not failed]
        counts = tuple(sum(has[t] for has, _ in judged) for t in range(len(self.attributes)))
        kept = sum(stays for _, stays in judged) if is_named else None
        return Tally(counts, len(judged), len(seen) - len(judged), kept)

    def _mark(self, concept: str, weights: Weights) -> str:
        """What a picture depends on beside its seed: all weights, since one map serves all concepts."""
        is_edited = any(bool(some.any()) for some in weights.values())
        edit = [self.protocol, {c: [float(w) for w in some] for c, some in weights.items()}] if is_edited else None
        said = [self.pictures_of, self.template, concept, edit]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
