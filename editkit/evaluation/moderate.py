"""`editkit moderate`: go part of the way of an edit, and measure how far that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import Profile, ProfileOrFile
from editkit.concepts.templates import fill
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.compose import scale
from editkit.edits.edit import Edit
from editkit.edits.method import Method
from editkit.erasure.captions import CaptionsLike
from editkit.erasure.erase import erase
from editkit.erasure.presets.preset import Preset
from editkit.erasure.presets.preset_file import load_preset
from editkit.erasure.synonyms import MoreWords
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector
from editkit.evaluation.detectors.judge import chosen_judge
from editkit.evaluation.known import check_labels
from editkit.evaluation.statistics.intervals import part_interval, rate_interval
from editkit.model.editable import ModelLike, open_model
from editkit.progress import progress

STRENGTH = 0.5
BY = ("map", "share")
FIRST_SEED = 600
"""Of the pictures that are counted; those that a strength is searched with come `SEARCHED` later."""
SEARCHED = 10_000
HALVINGS = 5


def moderate(
    model: ModelLike,
    concepts: Sequence[str] = (),
    strength: float | None = None,
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
    synonyms: str | None = None,
    synonym: MoreWords = (),
    prior: CaptionsLike | None = None,
    preset: Preset | str | Path | None = None,
    by: str = "map",
    pictures: int = 32,
    detector: str | None = None,
    device: str | None = None,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Edit:
    """Erase `concepts` in part: with the whole edit `M`, the edit is `I + t (M − I)`.

    Each key and value of a concept goes exactly `t` of the way that the whole edit sends it. How much less of the
    concept is seen is another matter, and is measured: of the way from the unedited model's share of pictures that show
    it to the whole edit's share.

    Args:
        model: as `open_model` takes it, or what it returns.
        concepts: words or phrases; default: the preset's.
        strength: from 0, no edit, to 1, the whole; default: the preset's, else 0.5.
        guides: what each becomes, as `erase` takes it.
        preserve: prompts that must stay as they are.
        options: how to solve it, and with what protection.
        vocabulary: words to protect.
        checked: refuse an edit that blows up; else warn of it.
        synonyms: `erase` or `leave`.
        synonym: more words to erase.
        prior: captions to hold where they are.
        preset: as `erase` takes it.
        by: what the strength is a part of. `map`: `t` itself. `share`: of what the whole edit takes from the share of
            pictures; `t` is searched for by halving, with pictures of its own.
        pictures: of each concept and edit, one a seed. 0: nothing is measured.
        detector: who judges, in place of the profile's judge. Where there is neither, nothing is measured.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        settings: how to draw, as in `editkit.drawing.sampling.Settings`.

    Returns:
        The edit. Its record has `scale`, which is `t`, and `moderated`, what was planned and measured.

    Raises:
        EditkitError: as `erase`; or the strength is none, or it is a part of a share that nobody measures.

    >>> half = moderate("emoji", ["church"], 0.5, pictures=0)
    >>> half.record["scale"], half.record["moderated"]
    (0.5, {'strength': 0.5, 'by': 'map', 'planned': 0.5, 'judge': None})
    """
    chosen = None if preset is None else load_preset(preset)
    if strength is None:
        strength = float(STRENGTH if chosen is None else chosen.moderate.get("strength", STRENGTH))
    _check(strength, by, pictures)
    opened = open_model(model, profile=profile)
    judge = chosen_judge(opened.profile, detector or "") if pictures else None
    if judge is None and by == "share":
        raise EditkitError("--by share: nobody counts the pictures of this model; give --detector, or use --by map")
    if judge is not None:
        check_drawable(opened.source)
        named = concepts or ([] if chosen is None else chosen.concept)
        for concept in named:
            if not opened.profile.is_style(concept):
                check_labels(judge, concept, _labels(opened.profile, concept))
    whole = erase(
        opened, concepts, guides, preserve, options, vocabulary, checked, synonyms, synonym, prior=prior, preset=chosen,
    )  # fmt: skip
    if judge is None:
        return _told(whole, strength, {"strength": strength, "by": by, "planned": strength, "judge": None})
    sampling = Sampling.for_model(opened.source, **settings)
    denoiser = open_denoiser(opened.source, device or Shard.from_environment().device(), sampling.placement)
    counter = _Counter(opened.profile, whole, denoiser, judge, sampling, pictures)
    part = strength if by == "map" else counter.searched(strength)
    return _told(whole, part, {"strength": strength, "by": by, "planned": part, **counter.measured(part)})


def _told(whole: Edit, part: float, moderated: Mapping[str, Any]) -> Edit:
    edit = scale(whole, part)
    return replace(edit, record={**edit.record, "moderated": dict(moderated)})


def _check(strength: float, by: str, pictures: int) -> None:
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise EditkitError(f"--strength: expected a number from 0 (no edit) to 1 (the whole edit), got {strength}")
    if by not in BY:
        raise EditkitError(f"--by: must be one of {', '.join(BY)}, but got {by!r}")
    if pictures < 0:
        raise EditkitError(f"--pictures: expected at least 0, got {pictures}")


def _labels(profile: Profile, concept: str) -> tuple[str, ...]:
    """What the judge calls a concept."""
    return profile.meanings.get(concept.strip().lower(), (concept,))


@dataclass(frozen=True)
class _Counter:
    """Counts the pictures of an edit's concepts that show them."""

    profile: Profile
    whole: Edit
    denoiser: Denoiser
    judge: Detector
    sampling: Sampling
    pictures: int

    def measured(self, part: float) -> dict[str, Any]:
        """Shares of the unedited model, of `part` of the edit and of all of it, and how far of the way that is."""
        seeds = range(FIRST_SEED, FIRST_SEED + self.pictures)
        unedited, moderated, whole = self._seen([None, scale(self.whole, part), self.whole], seeds, "measuring")
        judged = [n for n in range(len(whole)) if None not in (unedited[n], moderated[n], whole[n])]
        marks = [seeds[n % self.pictures] for n in judged]
        sides = [[bool(side[n]) for n in judged] for side in (unedited, moderated, whole)]
        shares = zip(("unedited", "moderated", "whole"), sides, strict=True)
        return {
            "judge": self.judge.name,
            "seeds": [seeds.start, seeds.stop],
            "errors": len(whole) - len(judged),
            **{name: rate_interval(side, marks).as_dict() for name, side in shares},
            "part": part_interval(*[[float(hit) for hit in side] for side in sides], clusters=marks).as_dict(),
        }

    def searched(self, strength: float) -> float:
        """The `t` with which the share falls by `strength` of what the whole edit takes from it."""
        start = FIRST_SEED + SEARCHED
        seeds = range(start, start + self.pictures)
        ends = [_share(side) for side in self._seen([None, self.whole], seeds, "the whole edit")]
        if strength in (0, 1) or ends[0] <= ends[1]:
            return strength
        wanted = ends[0] - strength * (ends[0] - ends[1])
        low, high = 0.0, 1.0
        for n in range(HALVINGS):
            middle = (low + high) / 2
            (side,) = self._seen([scale(self.whole, middle)], seeds, f"searching, {n + 1} of {HALVINGS}")
            low, high = (middle, high) if _share(side) > wanted else (low, middle)
        return (low + high) / 2

    def _seen(self, variants: Sequence[Edit | None], seeds: Sequence[int], what: str) -> list[list[bool | None]]:
        """Whether each picture shows its concept, concept by concept and seed by seed, for every variant."""
        asked = {self._prompt(concept): concept for concept in self.whole.record["concepts"]}
        wanted = jobs(list(asked), list(seeds), len(variants))
        drawn = progress(draw(self.denoiser, wanted, variants, self.sampling), len(wanted), what)
        pairs = [(job, picture) for job, picture in drawn]
        said = self.judge.detect([picture for _, picture in pairs])
        seen: list[list[bool | None]] = [[] for _ in variants]
        for (job, _), detection in zip(pairs, said, strict=True):
            seen[job.variant].append(self._shows(detection, asked[job.prompt]))
        return seen

    def _prompt(self, concept: str) -> str:
        """In the second of its sentences: the first is the bare name."""
        return fill(self.profile.templates_for(concept)[:2][-1], concept)

    def _shows(self, detection: Detection, concept: str) -> bool | None:
        if detection.error is not None:
            return None
        if self.profile.is_style(concept):
            return concept.strip().lower() in {value.lower() for value in detection.attributes.values()}
        return detection.sees(_labels(self.profile, concept))


def _share(side: Sequence[bool | None]) -> float:
    judged = [hit for hit in side if hit is not None]
    return sum(judged) / max(1, len(judged))
