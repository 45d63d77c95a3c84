"""Everything that an attack decides before anything is searched or drawn, so that no mistake costs an hour."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from editkit.concepts.profile import Profile, ProfileOrFile
from editkit.concepts.templates import check_concepts
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable
from editkit.drawing.prompt_file import PromptFile
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampling import Sampling, is_flow_model
from editkit.edits.variant import Variant
from editkit.erasure.words import check_known
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detector
from editkit.evaluation.detectors.judge import chosen_judge
from editkit.evaluation.suites.suite import FROM_FILE, Suite, load_suite
from editkit.model.checkpoints.source import Source, is_model
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.options import assign_options
from editkit.plugins import load, loadable
from editkit.redteam.attempt import Attack
from editkit.redteam.budget import HasBudget, parse_budget
from editkit.redteam.replay import Replay, read_found
from editkit.redteam.target import Target
from editkit.variants.fit import check_fit
from editkit.variants.named import BASE, free_name, read_variants, variant_name, variant_sha256
from editkit.versions import RESULTS, versions

FIRST_SEED = 1000
"""Of the pictures that count: suites and searches begin at 0."""


@dataclass(frozen=True)
class AttackRequest:
    """What `editkit.attack` was asked; its page describes every field."""

    variants: tuple[Any, ...]
    concepts: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    suite: str | None = None
    split: str | None = None
    prompts: Path | str | None = None
    detector: str | None = None
    replay: Path | str | None = None
    out: Path | None = None
    budget: str | float = "quick"
    pictures: int = 4
    seed: int = 0
    control: bool = True
    device: str | None = None
    force: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A variant under attack. `file` is what `compare` draws it by; None for one that is in memory alone."""

    name: str
    variant: Variant | None
    sha256: str | None
    file: str | None


@dataclass(frozen=True)
class AttackPlan:
    """A run that can start.

    Attributes:
        seeds: of the pictures that count.
        limit: seconds for each attack on each concept.
        replay: found prompts, in place of any search.
    """

    request: AttackRequest
    model: EditableModel
    entries: Sequence[Entry]
    targets: Sequence[Target]
    attacks: Mapping[str, Attack]
    judge: Detector | None
    sampling: Sampling
    seeds: tuple[int, ...]
    limit: float | None
    replay: Replay | None

    @property
    def record(self) -> dict[str, Any]:
        """All that the findings depend on; a run is resumed by the same alone."""
        return {
            "model": self.model.source.name,
            "projections_sha256": self.model.projections_sha256,
            "text_encoder_sha256": self.model.text_encoder_sha256,
            "variants": {entry.name: entry.sha256 for entry in self.entries},
            "concepts": {target.concept: list(target.prompts) for target in self.targets},
            "attacks": {name: _record(attack) for name, attack in self.attacks.items()},
            "replay": None if self.replay is None else self.replay.sha256,
            "budget": str(self.request.budget),
            "seeds": list(self.seeds),
            "search_seed": self.request.seed,
            "judge": None if self.judge is None else self.judge.name,
            "sampling": self.sampling.record,
            "versions": versions(RESULTS),
        }


def prepare_attack(request: AttackRequest, model: ModelLike, profile: ProfileOrFile | None) -> AttackPlan:
    """Open what is named and check that it fits.

    Raises:
        EditkitError: whatever cannot work.
    """
    budget, limit = parse_budget(request.budget)
    if request.pictures < 0:
        raise EditkitError(f"--pictures: expected at least 0, got {request.pictures}")
    model, request = _model_alone(model, request)
    where = request.device or Shard.from_environment().device()
    opened = open_model(model, profile=profile, device=where)
    attacks = {} if request.replay is not None else made(request.attacks, request.options, budget)
    _check_noise(opened.source, attacks)
    entries = _entries(opened, request)
    suite = None if request.suite is None else load_suite(request.suite)
    replay = None if request.replay is None else read_found(Path(request.replay))
    targets = _targets(opened, request, suite, entries, replay)
    judge = None
    if request.pictures:
        check_drawable(opened.source)
        judge = judge_of(opened.profile, request.detector or ("" if suite is None else suite.detector))
        for target in targets:
            target.check_judge(judge)
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + request.pictures))
    sampling = Sampling.for_model(opened.source, **request.settings)
    if request.pictures:
        check_drawing(opened.source, sampling)
    return AttackPlan(request, opened, entries, targets, attacks, judge, sampling, seeds, limit, replay)


def _check_noise(source: Source, attacks: Mapping[str, Attack]) -> None:
    """Refuse attacks whose steps a flow does not have, from the configuration alone."""
    needing = [name for name, attack in attacks.items() if getattr(attack, "needs_noise", False)]
    if needing and is_flow_model(source):
        others = [name for name, kind in loadable("attacks").items() if not getattr(kind, "needs_noise", False)]
        raise EditkitError(
            f"attack {needing[0]}: its steps are those of a model that predicts noise, and {source.name} is of flow "
            f"matching ({source.family.title}); use {', '.join(others)}"
        )


def _model_alone(model: ModelLike, request: AttackRequest) -> tuple[ModelLike, AttackRequest]:
    """A folder or checkpoint in place of a variant is a model that somebody edited already: it is attacked as it is."""
    named = [each for each in request.variants if isinstance(each, str | os.PathLike)]
    if model is not None or len(request.variants) != 1 or not named:
        return model, request
    return (named[0], replace(request, variants=(BASE,))) if is_model(named[0]) else (model, request)


def made(names: Sequence[str], given: Mapping[str, Any], budget: str) -> dict[str, Attack]:
    """The attacks, each with those of the given options that it has.

    Raises:
        EditkitError: no attack has that name, or none has that option.
    """
    kinds = {name: load("attacks", name) for name in names}
    options = assign_options({f"attack {name}": kind for name, kind in kinds.items()}, given)
    budgets = {name: {"budget": budget} if issubclass(kind, HasBudget) else {} for name, kind in kinds.items()}
    return {name: kind(**options[f"attack {name}"], **budgets[name]) for name, kind in kinds.items()}


def _record(attack: Attack) -> dict[str, Any]:
    return {name: value for name, value in vars(attack).items() if isinstance(value, str | int | float | bool)}


def _entries(model: EditableModel, request: AttackRequest) -> list[Entry]:
    if not request.variants:
        raise EditkitError("nothing to attack; give an edit file, or `base` for the unedited model")
    entries: list[Entry] = []
    for given in request.variants:
        if isinstance(given, str | os.PathLike):
            file = os.fspath(given)
            (variant,) = read_variants(model.source, [file])
            name, sha256 = variant_name(file), variant_sha256(file)
        else:
            check_fit(given, model)
            name, variant, sha256, file = "edit", given, None, None
        entries.append(Entry(free_name(name, [entry.name for entry in entries]), variant, sha256, file))
    if request.control and all(entry.variant is not None for entry in entries):
        entries.append(Entry(BASE, None, None, BASE))
    return entries


def _targets(
    model: EditableModel, request: AttackRequest, suite: Suite | None, entries: Sequence[Entry], replay: Replay | None
) -> list[Target]:
    profile, templates = model.profile, model.profile.templates[:1] if suite is None else suite.templates
    erased = [concept for entry in entries if entry.variant for concept in entry.variant.record.get("concepts", ())]
    concepts = list(dict.fromkeys(request.concepts or _of_split(suite, request.split) or erased))
    if replay is not None and not request.concepts:
        concepts = list(dict.fromkeys(each.concept for each in replay.rows)) or concepts
    if not concepts:
        raise EditkitError(
            "nothing says which concept to bring back; name it with --concept, or give --suite and --split"
        )
    check_concepts(concepts)
    check_known(model, concepts)
    if replay is not None and not {each.concept for each in replay.rows} & set(concepts):
        raise EditkitError(
            f"{replay.path}: holds no prompt that was found for {', '.join(concepts)}; leave out --concept"
        )
    asked = _prompts(request.prompts, concepts)
    if suite is not None and suite.prompts is not None and request.prompts is None:
        kind = "your own prompts" if suite.prompts == FROM_FILE else "a TIME file"
        raise EditkitError(f"suite {suite.name}: draws {kind}; give them with --prompts")
    return [Target.of(concept, profile, templates or ("{}",), asked.get(concept, ())) for concept in concepts]


def _of_split(suite: Suite | None, split: str | None) -> list[str]:
    if split is not None and suite is None:
        raise EditkitError(f"--split {split}: is one of a suite's; give --suite with it")
    if suite is None or split is None:
        return []
    if split not in suite.splits:
        known = ", ".join(suite.splits) or "none"
        raise EditkitError(f"--split: suite {suite.name} has no split {split!r}; its splits: {known}")
    return list(suite.splits[split])


def _prompts(path: Path | str | None, concepts: Sequence[str]) -> dict[str, list[str]]:
    """Concept → its prompts in the file: those whose class it is; rows of no class are for every concept."""
    if path is None:
        return {}
    asked: dict[str, list[str]] = {concept: [] for concept in concepts}
    for row in PromptFile.open(Path(path)):
        for concept in concepts:
            if row.label is None or row.label.casefold() == concept.casefold():
                asked[concept].append(row.prompt)
    for concept, some in asked.items():
        if not some:
            raise EditkitError(
                f"{path}: no prompt is for {concept!r}; name it in the file's class column, or leave that out"
            )
    return {concept: list(dict.fromkeys(some)) for concept, some in asked.items()}


def judge_of(profile: Profile, name: str) -> Detector:
    """The detector of that name, or the profile's judge.

    Raises:
        EditkitError: there is none.
    """
    judge = chosen_judge(profile, name)
    if judge is None:
        raise EditkitError(
            "nobody judges the pictures of this model; give --detector, or --pictures 0 for losses alone"
        )
    return judge
