"""Several variants of a model on the same prompts and noise: pictures, what the judge sees in them, and damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.variant import Variant
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.detectors.judge import load_judge
from editkit.evaluation.sensitivity import Damage, word_damage
from editkit.model.editable import EditableModel
from editkit.progress import progress
from editkit.report.drawn import Drawn

LARGE_AT_ONCE = 32
"""Large pictures that are read from their files and judged together."""


@dataclass(frozen=True)
class NamedVariant:
    """One variant of the model.

    Attributes:
        name: how the report calls it.
        edit: None is the unedited model.
        sha256: of the edit file, where there is one.
    """

    name: str
    edit: Variant | None
    sha256: str | None = None

    @property
    def record(self) -> Mapping[str, Any]:
        return {} if self.edit is None else self.edit.record


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows.

    Attributes:
        pictures: large ones are read from files: those of the report, once it is written.
        damage: one entry a variant; None for the unedited model.
        detections: what the judge of the model's profile sees; empty where it has none.
        named: the damage of the words that the prompts are about, variant by variant.
        stands_for: prompt → what it asks for, where that is not what it names: an attack's do not say their concept.
    """

    model: EditableModel
    variants: tuple[NamedVariant, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sampling: Sampling
    pictures: Drawn
    damage: tuple[Damage | None, ...]
    named: tuple[Damage | None, ...]
    detections: Mapping[Job, Detection] = field(default_factory=dict)
    stands_for: Mapping[str, str] = field(default_factory=dict)

    def labels_of(self, prompt: str) -> tuple[str, ...]:
        """What the judge should see in a picture of `prompt`; empty where that is nothing that it knows."""
        return self.model.profile.labels_of(self.stands_for.get(prompt, prompt))

    def erased(self) -> list[str]:
        """The concepts that any of the edits is about."""
        concepts = (concept for variant in self.variants for concept in variant.record.get("concepts", ()))
        return list(dict.fromkeys(concepts))


def make_comparison(
    model: EditableModel,
    variants: Sequence[NamedVariant],
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    device: str | None = None,
    vocabulary: Sequence[str] | None = None,
    out: Path | None = None,
) -> Comparison:
    """Draw every prompt and seed with every variant in one stream, judge the pictures, and measure the damage.

    Args:
        out: where the report will be: large pictures are kept in files beside it, not in memory.
        vocabulary: words whose damage is shown; default: those that an edit of the same concepts would protect.

    Raises:
        EditkitError: fewer than two variants, or no prompt.
    """
    if len(variants) < 2:
        raise EditkitError(f"a report compares at least two variants, got {len(variants)}; add `base` or an edit file")
    if not prompts:
        raise EditkitError("no prompt given; name at least one with --prompt")
    prompts = list(dict.fromkeys(prompts))
    check_drawing(model.source, sampling, [variant.edit for variant in variants])
    judge = load_judge(model.profile)
    damage, named = _damage(model, variants, prompts, vocabulary)
    denoiser = open_denoiser(model.source, device or Shard.from_environment().device(), sampling.placement)
    wanted = jobs(prompts, seeds, len(variants))
    drawn = draw(denoiser, wanted, [variant.edit for variant in variants], sampling)
    pictures = Drawn([variant.name for variant in variants], out)
    for job, picture in progress(drawn, len(wanted), "drawing"):
        pictures.add(job, picture)
    detections = {} if judge is None else judged(judge, pictures)
    return Comparison(
        model, tuple(variants), tuple(prompts), tuple(seeds), sampling, pictures, damage, named, detections
    )


def judged(judge: Detector, pictures: Drawn) -> dict[Job, Detection]:
    """What `judge` sees in every picture."""
    detections: dict[Job, Detection] = {}
    drawn = list(pictures)
    at_once = LARGE_AT_ONCE if pictures.files else len(drawn)
    for start in range(0, len(drawn), at_once):
        part = drawn[start : start + at_once]
        detections.update(zip(part, judge.detect([pictures[job] for job in part]), strict=True))
    return detections


def _damage(
    model: EditableModel, variants: Sequence[NamedVariant], prompts: Sequence[str], vocabulary: Sequence[str] | None
) -> tuple[tuple[Damage | None, ...], tuple[Damage | None, ...]]:
    edits = [variant.edit for variant in variants if variant.edit is not None]
    concepts = list(dict.fromkeys(concept for edit in edits for concept in edit.record.get("concepts", ())))
    guides = list(dict.fromkeys(guide for edit in edits for guide in edit.record.get("guides", ())))
    if not concepts:
        return (None,) * len(variants), (None,) * len(variants)
    words = words_to_protect(model, concepts, guides, vocabulary)
    if not words:
        raise EditkitError("no word is left in the vocabulary besides the erased concepts; give a larger --vocabulary")
    about = subjects(model, prompts, concepts)
    rest, own = iter(word_damage(model, edits, words)), iter(word_damage(model, edits, about))
    known = [variant.edit is not None for variant in variants]
    return tuple(next(rest) if edited else None for edited in known), tuple(
        next(own) if edited else None for edited in known
    )


def subjects(model: EditableModel, prompts: Sequence[str], concepts: Sequence[str]) -> list[str]:
    """The words to name in the sensitivity plot: the erased concepts and what the prompts are about."""
    named = [subject for prompt in prompts if (subject := subject_of(model, prompt, concepts)) is not None]
    return list(dict.fromkeys([*concepts, *named]))


def subject_of(model: EditableModel, prompt: str, concepts: Sequence[str]) -> str | None:
    """What a prompt is about: a word of the model's profile; without such words, an erased concept that it says, or a
    short prompt itself."""
    if model.profile.words is not None:
        return model.profile.named_in(prompt)
    said = next((concept for concept in concepts if concept.lower() in prompt.lower()), None)
    bare = prompt.removeprefix("a ").removeprefix("an ").removeprefix("the ").strip()
    return said or (bare if bare and len(bare.split()) <= 3 else None)
