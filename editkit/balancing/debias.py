"""`editkit debias`: balance what concepts show across attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from editkit.balancing.gallery import Gallery
from editkit.balancing.judge import check_judge, judge_of, labels_of
from editkit.balancing.loop import FRESH, Loop, Outcome, Round, listed
from editkit.balancing.published import PublishedLoop
from editkit.balancing.steered import SteeredModel
from editkit.concepts.attributes import Attribute, attributes_of
from editkit.concepts.profile import ProfileOrFile
from editkit.concepts.templates import check_concepts, fill
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.erasure.make import Request, words_of
from editkit.erasure.words import check_known
from editkit.errors import EditkitError
from editkit.evaluation.statistics.rates import Rate
from editkit.model.editable import ModelLike, open_model
from editkit.versions import RESULTS, versions

LOOPS = ("secant", "published")
PUBLISHED = {"protect": "none", "tokens": "last", "lamb": 0.5}
"""Options of UCE's published loop."""


def debias(
    model: ModelLike,
    concepts: Sequence[str],
    attributes: Sequence[str | Attribute],
    ratios: Sequence[float] | None = None,
    options: Method | None = None,
    loop: str = "secant",
    template: str = "a {}",
    max_diff: float = 0.05,
    pictures: Sequence[int] = (16, 64, 400, 1600),
    certify: int = 1600,
    rounds: int = 16,
    most_damage: float = 0.2,
    seed: int = 0,
    preserve: Sequence[str] = (),
    vocabulary: Sequence[str] | None = None,
    detector: str | None = None,
    weights: Mapping[str, Path | str] | None = None,
    kept: Path | None = None,
    device: str | None = None,
    profile: ProfileOrFile | None = None,
    tell: Callable[[Round], None] = lambda round: None,
    **settings: Unpack[Settings],
) -> Edit:
    """Make an edit with which a model draws `concepts` in wanted shares of each attribute.

    Every round draws the concepts, counts what a judge sees, and steps the weights of the attributes (UCE's debiasing,
    Gandikota et al. 2024: `v* = W(c + Σ_t α_t a_t)`). Here `a_t` is what the attribute does to the concept's own rows,
    log-odds are integrated, and the result is certified by pictures of seeds that no round used.

    Args:
        model: as `open_model` takes it, or what it returns.
        concepts: what is balanced, all at once; each has weights of its own.
        attributes: two or more: words that the judge says, several of one attribute with commas, or `Attribute`.
        ratios: the share that is wanted of each, in all 1; default: those of the attributes, else all alike.
        options: of `uce`; default: `Options("uce")`, and for the published loop those of its authors.
        loop: `secant` is ours, `published` that of UCE's authors.
        template: the prompt that is drawn and counted.
        max_diff: how far the whole interval of a share may reach from what is wanted.
        pictures: of each concept in a round: more, as soon as so many cannot tell a share from a wanted one.
            All rounds have the same noise, so the last number bounds how well the result holds for other noise.
        certify: fresh pictures of each concept. An interval within 0.05 of a half needs 400 where the share is a half
            exactly, and 1600 where it is 0.025 away.
        rounds: the most.
        most_damage: the most damage that the worst protected word may take; steps end there.
        seed: of the first picture.
        preserve: prompts that must stay as they are.
        vocabulary: words to protect. Default: the words of the model's profile.
        detector: who judges, in place of the profile's judge; clip-zero-shot is given the attributes as its labels.
        weights: of the detector, and `clip`, where they are not in the usual place.
        kept: file in which counts are remembered, so that a run that is started again goes on. None: nowhere.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        tell: called after every round.
        settings: how to draw, as in `editkit.drawing.sampling.Settings`.

    Returns:
        An edit like any other; its record holds wanted and measured shares with their intervals (`debias`).

    Raises:
        EditkitError: an impossible request, an attribute that the judge does not know, or an edit that would break the
            checkpoint. Shares that are not reached are no error: `debias.reached` of the record says so.

    >>> words, few = ["dog", "church"], {"pictures": (2,), "certify": 2, "rounds": 1, "steps": 1}
    >>> edit = debias("emoji", ["cook"], ["man", "woman"], vocabulary=words, **few)
    >>> [(row["attribute"], row["wanted"]) for row in edit.record["debias"]["shares"]]
    [('man', 0.5), ('woman', 0.5)]
    """
    _check_numbers(loop, max_diff, pictures, certify, rounds, most_damage)
    wanted = attributes_of(attributes, ratios, concepts)
    check_concepts(concepts)
    fill(template, concepts[0])
    opened = open_model(model, profile=profile)
    check_known(opened, concepts)
    for each in wanted:
        try:
            check_known(opened, [each.phrase.replace("{}", "").strip()])
        except EditkitError as error:
            raise EditkitError(f"--attribute {each.name}: {error}") from error
    check_drawable(opened.source)
    is_published = loop == "published"
    options = options or (Options("uce", **PUBLISHED) if is_published else Options("uce"))
    _check_options(options)
    places = {name: Path(path) for name, path in (weights or {}).items()}
    judge = judge_of(opened.profile, detector, wanted, places)
    check_judge(judge, wanted)
    sampling = Sampling.for_model(opened.source, **settings)
    asked = " ".join(f"{each.name} {each.ratio:.3g}" for each in wanted)
    words = words_of(opened, options, concepts, [], vocabulary)
    words = [*words, *_named(wanted, words)]
    request = Request(opened, options, concepts, [asked] * len(concepts), preserve, words)
    steered = SteeredModel(request, wanted, is_published)
    pictures_of = {
        "model": [opened.projections_sha256, opened.text_encoder_sha256],
        "judge": [judge.name, [each.seen for each in wanted], opened.profile.sha256],
        "sampling": sampling.record,
        "versions": versions(RESULTS),
    }
    of_edit = [
        loop,
        "decoupled",
        options.record,
        list(concepts),
        [each.phrase for each in wanted],
        list(preserve),
        words,
    ]
    device = device or Shard.from_environment().device()
    gallery = Gallery(
        open_denoiser(opened.source, device, sampling.placement), judge, sampling, wanted, template,
        {concept: labels_of(opened.profile, judge, concept) for concept in concepts}, steered.edit, kept,
        json.dumps(pictures_of, sort_keys=True), json.dumps(of_edit),
    )  # fmt: skip
    shares = [each.ratio for each in wanted]
    if is_published:
        steered.begin({concept: _ones(shares) for concept in concepts})
        before = pictures[min(1, len(pictures) - 1)]
        run = PublishedLoop(concepts, shares, gallery.observe, steered.damage, certify, before, max_diff, seed, tell)
    else:
        run = Loop(
            concepts, shares, gallery.observe, steered.begin, steered.damage, pictures, certify, max_diff, most_damage,
            rounds, seed, tell,
        )  # fmt: skip
    outcome = run.run()
    told = {
        "loop": loop, "template": template, "judge": judge.name, "max_diff": max_diff, "most_damage": most_damage,
        "pictures": list(pictures), "certify": certify, "seeds": {"rounds": seed, "fresh": seed + FRESH},
        "sampling": sampling.record, "drawn": gallery.drawn,
    }  # fmt: skip
    made = steered.edit(outcome.weights, True)
    return Edit(made.maps, {**made.record, "method": "debias", "debias": {**told, **_record(outcome, wanted, steered)}})


def _ones(shares: Sequence[float]) -> Tensor:
    import torch

    return torch.ones(len(shares), dtype=torch.float64)


def _named(attributes: Sequence[Attribute], words: Sequence[str]) -> list[str]:
    """The attributes' own words. What names an attribute and a concept cannot stay as it is: a concept that is drawn
    with one attribute most often lies beside it."""
    known = {word.casefold() for word in words}
    said = dict.fromkeys(each.phrase.replace("{}", "").strip() for each in attributes)
    return [word for word in said if word and word.casefold() not in known]


def _check_numbers(
    loop: str, max_diff: float, pictures: Sequence[int], certify: int, rounds: int, most_damage: float
) -> None:
    if loop not in LOOPS:
        raise EditkitError(f"--loop: expected one of {', '.join(LOOPS)}, got {loop!r}")
    if not 0 < max_diff < 1:
        raise EditkitError(f"--max-diff: expected a share between 0 and 1, got {max_diff:g}")
    if not pictures or min(pictures) < 1 or list(pictures) != sorted(set(pictures)):
        said = ",".join(map(str, pictures)) or "none"
        raise EditkitError(
            f"--pictures: expected numbers of at least 1, each above the last, such as 16,64,400,1600, got {said}"
        )
    for flag, value in (("--certify", certify), ("--rounds", rounds)):
        if value < 1:
            raise EditkitError(f"{flag}: expected at least 1, got {value}")
    if most_damage <= 0:
        raise EditkitError(f"--most-damage: expected a number above 0, got {most_damage:g}")


def _check_options(options: Method) -> None:
    if (
        options.name != "uce"
        or options.hard
        or options.perturb
        or getattr(options, "technique", "replace") != "replace"
    ):
        raise EditkitError(
            "debias: expected options of uce, without hard, perturb and technique tensor: other edits are not linear "
            "in their weights"
        )


def _record(outcome: Outcome, attributes: Sequence[Attribute], steered: SteeredModel) -> dict[str, Any]:
    rows, kept = [], {}
    for concept, after in outcome.after.items():
        before = outcome.before[concept]
        pairs = zip(attributes, before.shares, after.shares, strict=True)
        rows += [
            {
                "concept": concept,
                "attribute": each.name,
                "wanted": each.ratio,
                "before": _rate(was),
                "after": _rate(now),
            }
            for each, was, now in pairs
        ]
        if after.kept is not None and before.kept is not None:
            kept[concept] = {
                "before": _rate(Rate(before.kept, before.judged)), "after": _rate(Rate(after.kept, after.judged)),
            }  # fmt: skip
    return {
        "attributes": [
            {"name": each.name, "phrase": each.phrase, "seen": list(each.seen), "ratio": each.ratio}
            for each in attributes
        ],
        "shares": rows,
        "kept": kept,
        "reached": dict(outcome.reached),
        "stopped": outcome.stopped,
        "weights": {concept: listed(some) for concept, some in steered.weights(outcome.weights).items()},
        "failed": sum(tally.failed for tally in outcome.after.values()),
        "rounds": [replace(each, weights=steered.weights(each.weights)).as_dict() for each in outcome.rounds],
    }


def _rate(rate: Rate) -> dict[str, float | int | None]:
    if not rate.count:
        return {"value": None, "low": None, "high": None, "count": 0}
    low, high = rate.interval
    return {"value": round(rate.value, 5), "low": round(low, 5), "high": round(high, 5), "count": rate.count}
