"""What a suite asks for: every picture with its class, and whether that must go or stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from editkit.drawing.prompt_file import PromptFile, parse_seeds
from editkit.drawing.prompt_rows import PromptCase
from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import ERASE, KEEP
from editkit.evaluation.suites.suite import Suite
from editkit.evaluation.time_prompts import TimePrompts

MOST_SHOWN = 12


@dataclass(frozen=True)
class PictureCase:
    """One picture to draw and to judge."""

    case_number: str
    prompt: str
    seed: int
    label: str = ""
    role: str = KEEP
    subject: str | None = None
    guidance: float | None = None
    closer: tuple[str, str] | None = None

    @property
    def file(self) -> str:
        return f"{self.case_number}_{self.seed}.png"


@dataclass(frozen=True)
class Plan:
    """Every picture of a suite, in order; iterated anew each time, so that a long prompt file stays on the disk.

    Attributes:
        erased: the classes that must go, as the suite spells them.
        split: the split they are, or None.
        seeds: the user's, for every row; without them a row's own, else the suite's.
    """

    suite: Suite
    prompts: PromptFile | TimePrompts | None
    erased: frozenset[str]
    split: str | None = None
    seeds: Sequence[int] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """A class as a prompt file may spell it → as the suite does."""

    def __iter__(self) -> Iterator[PictureCase]:
        usual = parse_seeds(self.suite.seeds)
        for case, more in self.cases():
            label = self.names.get(plain(case.label or ""), case.label or "")
            role = self.suite.role or (ERASE if label in self.erased else KEEP)
            own = usual if case.seed is None else [case.seed]
            for seed in own if self.seeds is None else self.seeds:
                yield PictureCase(case.case_number, case.prompt, seed, label, role, guidance=case.guidance, **more)

    def cases(self) -> Iterator[tuple[PromptCase, Mapping[str, Any]]]:
        """The prompts, each with what else is known of it."""
        if isinstance(self.prompts, TimePrompts):
            for number, trial in enumerate(self.prompts):
                case = PromptCase(f"{number:05d}", trial.prompt, label=trial.kind)
                yield case, {"closer": (trial.wanted, trial.other)}
        elif self.prompts is not None:
            yield from ((case, {}) for case in self.prompts)
        else:
            asked = chain.from_iterable(part.prompts() for part in self.suite.parts)
            for number, (label, subject, prompt) in enumerate(asked):
                yield PromptCase(f"{number:05d}", prompt, label=label), {"subject": subject}

    @property
    def record(self) -> dict[str, Any]:
        """What a result depends on."""
        return {
            "suite": self.suite.record,
            "split": self.split,
            "erased": sorted(self.erased),
            "seeds": parse_seeds(self.suite.seeds) if self.seeds is None else list(self.seeds),
            "seeds of the rows": self.seeds is None and self.prompts is not None,
            "prompts": None if self.prompts is None else self.prompts.record,
        }


def make_plan(
    suite: Suite,
    prompts: PromptFile | TimePrompts | None,
    erased_by: Mapping[str, Sequence[str]],
    split: str | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[Plan, list[str]]:
    """The plan, and warnings about edits that do not erase what the plan measures.

    Args:
        erased_by: edit → the concepts that its record names.

    Raises:
        EditkitError: the suite wants a prompt file, a split is unknown, or nothing says which classes are erased.
    """
    if suite.prompts is not None and prompts is None:
        raise EditkitError(f"suite {suite.name}: give your prompt file with --prompts FILE. {suite.about}")
    if isinstance(prompts, TimePrompts):
        return Plan(suite, prompts, frozenset(), None, seeds), []
    labels = _labels(suite, prompts)
    names = {plain(label): label for label in labels}
    if suite.classes and prompts is not None:
        strange = sorted(label for label in labels if label not in suite.classes)
        if strange:
            raise EditkitError(
                f"{prompts.path}: {strange[0] or 'no class'!r} is no class of suite {suite.name}; expected in column "
                f"`class` one of {', '.join(suite.classes)}"
            )
    if suite.role is not None:
        return Plan(suite, prompts, frozenset(), None, seeds, names), []
    chosen, erased = _erased(suite, labels, erased_by, split)
    return Plan(suite, prompts, frozenset(erased), chosen, seeds, names), list(
        _mismatches(suite, chosen, erased, erased_by)
    )


def plain(name: str) -> str:
    """A class or concept without case and punctuation: files write "English springer" and "english_springer"."""
    return " ".join(name.replace("_", " ").casefold().split())


def _labels(suite: Suite, prompts: PromptFile | None) -> list[str]:
    """The classes that are asked for, as the suite spells those that it knows."""
    known = {plain(label): label for label in suite.classes}
    if prompts is None:
        return list(suite.classes)
    return list(dict.fromkeys(known.get(plain(case.label or ""), case.label or "") for case in prompts))


def _erased(
    suite: Suite, labels: Sequence[str], erased_by: Mapping[str, Sequence[str]], split: str | None
) -> tuple[str | None, set[str]]:
    """The split, if one fits, and the erased classes."""
    if split is not None:
        if split not in suite.splits:
            known = f"expected one of {', '.join(suite.splits)}" if suite.splits else "the suite has none"
            raise EditkitError(f"--split {split}: {known} (suite {suite.name})")
        return split, set(suite.splits[split])
    classes = {name: _matching(suite, labels, concepts) for name, concepts in erased_by.items()}
    sets = {frozenset(own) for own in classes.values() if own}
    splits = f"; --split chooses: {', '.join(suite.splits)}" if suite.splits else ""
    if not sets:
        said = "; ".join(f"{name} erases {', '.join(concepts) or 'nothing'}" for name, concepts in erased_by.items())
        shown = ", ".join([*labels[:MOST_SHOWN], *(["..."] if labels[MOST_SHOWN:] else [])])
        whose = f"{said}, none of its classes ({shown})" if erased_by else "no edit is given"
        raise EditkitError(f"suite {suite.name}: {whose}, so nothing says which classes are erased{splits}")
    if len(sets) > 1:
        said = "; ".join(f"{name}: {', '.join(sorted(own)) or 'none'}" for name, own in classes.items())
        raise EditkitError(f"suite {suite.name}: the edits erase different classes ({said}){splits}")
    erased = set(next(iter(sets)))
    return next((name for name, members in suite.splits.items() if set(members) == erased), None), erased


def _matching(suite: Suite, labels: Sequence[str], concepts: Sequence[str]) -> set[str]:
    """The classes that an edit of these concepts erases."""
    given = {plain(concept) for concept in concepts}
    return {label for label in labels if label and {plain(concept) for concept in suite.concepts_of(label)} <= given}


def _mismatches(
    suite: Suite, split: str | None, erased: set[str], erased_by: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    wanted = {plain(concept): concept for label in sorted(erased) for concept in suite.concepts_of(label)}
    if suite.splits and split is None:
        yield f"what is erased ({', '.join(sorted(erased))}) is no split of suite {suite.name}"
    for name, concepts in erased_by.items():
        given = {plain(concept): concept for concept in concepts}
        missing = [concept for spelled, concept in wanted.items() if spelled not in given]
        more = [concept for spelled, concept in given.items() if spelled not in wanted]
        if missing:
            yield f"{name} does not erase {', '.join(missing)}, which this measures as erased"
        if more:
            yield f"{name} also erases {', '.join(more)}, which this does not measure as erased"
