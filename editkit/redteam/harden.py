"""`editkit harden`: attack an edit, erase what brought its concepts back, solve again, attack afresh."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.statistics.intervals import Estimate, rate_interval
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.counterexamples import Counterexample, near_duplicate
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.request import judge_of
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_linear
from editkit.variants.fit import check_fit

FIRST_SEED = 500
"""Of the pictures that confirm a prompt: neither those of suites, nor those of `editkit attack`."""
TRANSFERRED = 32
"""Earlier prompts a concept that are drawn again in a round."""


@dataclass(frozen=True)
class Round:
    """One round: what a fresh attack found against the edit so far, and what the edit then was.

    Attributes:
        fresh: share of the pictures of freshly found prompts that show a concept, with its interval.
        worst: the same of the worst concept, without one.
        added: prompts that were confirmed and are erased from now on.
        transfer: share of pictures of all earlier prompts that still show a concept; None in the first round.
        rank, damage_mean, damage_worst: figures of the edit that was attacked.
        words: protected words that bring a concept back alone: word → concept.
    """

    number: int
    fresh: Estimate
    worst: float
    added: int
    transfer: float | None
    rank: int
    damage_mean: float
    damage_worst: float
    seconds: float
    words: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "fresh": self.fresh.as_dict()}


def harden(
    edit: Edit | str | os.PathLike[str],
    model: ModelLike = None,
    goal: float = 0.1,
    rounds: int = 10,
    most_damage: float = 0.2,
    per_round: int = 16,
    pictures: int = 3,
    searches: int = 2,
    weight: float = 1.0,
    give_up: Sequence[str] = (),
    search: PromptSearch | None = None,
    seed: int = 0,
    vocabulary: Sequence[str] | None = None,
    detector: str | None = None,
    device: str | None = None,
    profile: ProfileOrFile | None = None,
    tell: Callable[[Round], None] = lambda round: None,
    **settings: Unpack[Settings],
) -> Edit:
    """Harden an edit that `erase` made, of any closed-form method.

    Every round attacks the edit afresh with `prompt`, keeps the prompts that the judge confirms, adds their rows to
    what is erased, and solves again, all together and against the original. What certifies the edit must be another
    attack: see `docs/how-to/attack.md`.

    Args:
        edit: an edit or its file; its record says how it is made again.
        model: as `open_model` takes it, or what it returns.
        goal: stop when the upper end of the interval of the fresh success rate is below.
        rounds: the most.
        most_damage: the most damage that the worst protected word may take; edits beyond it are not kept.
        per_round: prompts a concept that are added in a round.
        pictures: of each found prompt.
        searches: searches a round, each with a seed of its own: one alone misses what the next finds.
        weight: of all found prompts of a concept together, against its own rows.
        give_up: protected words that are no longer protected, since they bring a concept back by themselves.
        search: options of the attack.
        seed: of the searches.
        vocabulary: the words that the edit protects, where these were not the model's own.
        detector: who judges, in place of the profile's.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        tell: called after every round.
        settings: how to draw, as in `editkit.drawing.sampling.Settings`.

    Returns:
        The edit of the round with the lowest upper limit within the damage. Its record holds the found prompts
        (`found`), so that it can be made again, and every round (`hardened`).

    Raises:
        EditkitError: the edit cannot be made again from its record, or the model cannot be drawn.

    >>> from editkit.redteam.prompt import PromptSearch
    >>> search = PromptSearch(engine="genetic", population=32, generations=1, best=2)
    >>> edit = harden(erase("emoji", ["church"]), "emoji", rounds=1, pictures=1, searches=1, search=search, steps=2)
    >>> len(edit.record["hardened"]["rounds"]) >= 1
    True
    """
    if not 0 < goal < 1 or rounds < 1 or pictures < 1 or searches < 1 or per_round < 1:
        raise EditkitError(
            f"--goal must lie between 0 and 1, --rounds, --pictures, --searches and --per-round be at least 1, got "
            f"{goal}, {rounds}, {pictures}, {searches} and {per_round}"
        )
    opened = open_model(model, profile=profile)
    read = edit if isinstance(edit, Edit) else load_linear(edit)
    check_fit(read, opened)
    recipe = Recipe.of(read, opened, vocabulary, give_up)
    check_drawable(opened.source)
    denoiser = open_denoiser(opened.source, device or Shard.from_environment().device())
    judge = judge_of(opened.profile, detector or "")
    arena = Arena(
        opened, read, denoiser, judge, Sampling.for_model(opened.source, **settings),
        tuple(range(FIRST_SEED, FIRST_SEED + pictures)), seed,
    )  # fmt: skip
    targets = [
        Target.of(concept, opened.profile, opened.profile.templates[1:2] or ("a {}",)) for concept in recipe.concepts
    ]
    for target in targets:
        target.check_judge(judge)
    loop = Loop(recipe, arena, targets, search or PromptSearch(best=per_round), searches, per_round, weight)
    return loop.run(read, goal, rounds, most_damage, tell)


@dataclass(frozen=True)
class Recipe:
    """How an edit is made again, with more to erase."""

    model: EditableModel
    concepts: tuple[str, ...]
    guides: tuple[str, ...]
    preserve: tuple[str, ...]
    options: Method
    synonyms: Mapping[str, Sequence[str]]
    found: Mapping[str, Sequence[str]]
    vocabulary: Sequence[str] | None
    checked: bool

    @classmethod
    def of(cls, edit: Edit, model: EditableModel, vocabulary: Sequence[str] | None, give_up: Sequence[str]) -> Recipe:
        """From the record.

        Raises:
            EditkitError: it does not make the edit again.
        """
        record = edit.record
        try:
            given = dict(record["options"])
            recipe = cls(
                model, tuple(record["concepts"]), tuple(record["guides"]), tuple(record["preserve"]),
                Options(given.pop("method"), **given), record.get("synonyms", {}), record.get("found", {}),
                vocabulary, bool(record.get("checked", True)),
            )  # fmt: skip
        except KeyError as error:
            raise EditkitError(
                f"harden: the edit's record has no {error.args[0]!r}, so it cannot be made again; harden what `editkit "
                "erase` made"
            ) from error
        recipe._check(edit)
        if give_up:
            words = model.own_words() if vocabulary is None else vocabulary
            unknown = [word for word in give_up if word not in words]
            if unknown:
                raise EditkitError(f"--give-up {unknown[0]}: is no protected word; name one that a round has named")
            recipe = replace(recipe, vocabulary=[word for word in words if word not in give_up])
        return recipe

    def made(self, found: Mapping[str, Sequence[str]]) -> Edit:
        """The edit that erases the prompts in `found`, too."""
        synonyms = [word for words in self.synonyms.values() for word in words]
        return erase(
            self.model, self.concepts, self.guides, self.preserve, self.options, self.vocabulary, self.checked,
            "leave", synonyms, found or None,
        )  # fmt: skip

    def _check(self, edit: Edit) -> None:
        again = self.made(self.found)
        for key, map in edit.maps.items():
            same = key in again.maps and again.maps[key].width == map.width
            apart = float((again.maps[key].dense() - map.dense()).norm() / map.dense().norm()) if same else 1.0
            if apart > 1e-4:
                raise EditkitError(
                    "harden: the edit is not what its record makes again: it was composed, scaled or made with words "
                    "that the record does not hold; give these with --vocabulary, or harden what `editkit erase` made"
                )


@dataclass(frozen=True)
class Loop:
    """The rounds of one hardening."""

    recipe: Recipe
    arena: Arena
    targets: Sequence[Target]
    search: PromptSearch
    searches: int
    per_round: int
    weight: float

    def run(self, edit: Edit, goal: float, rounds: int, most_damage: float, tell: Callable[[Round], None]) -> Edit:
        """Attack, add, solve; stop as `harden` says."""
        found = {concept: list(prompts) for concept, prompts in self.recipe.found.items()}
        best: tuple[float, Edit] | None = None
        done: list[Round] = []
        stopped = f"{rounds} rounds"
        for number in range(rounds + 1):
            start = time.perf_counter()
            arena = self.arena.of(edit)
            fresh = {target.concept: self._fresh(arena, target, number) for target in self.targets}
            transfer = self._transfer(arena, found)
            new = {concept: self._new(some, found.get(concept, [])) for concept, some in fresh.items()}
            rate = rate_interval(
                [hit for some in fresh.values() for each in some for hit in each.hits],
                [concept for concept, some in fresh.items() for each in some for _ in each.hits],
            )
            figures = edit.record["figures"]
            last = number == rounds or not any(new.values())
            done.append(Round(
                number, rate, max(_share(some) for some in fresh.values()),
                0 if last else sum(map(len, new.values())), transfer, figures["rank"], figures["damage_mean"] or 0.0,
                figures["damage_worst"] or 0.0, round(time.perf_counter() - start, 2), self._alone(arena, fresh),
            ))  # fmt: skip
            tell(done[-1])
            fits = (figures["damage_worst"] or 0.0) <= most_damage
            if (fits or best is None) and (best is None or rate.high < best[0]):
                best = (rate.high, edit)
            if rate.high < goal:
                stopped = f"a fresh attack has an upper limit of {rate.high:.1%}, below the goal of {goal:.0%}"
                break
            if not fits:
                stopped = f"the worst word is damaged by {figures['damage_worst']:.3f}, above {most_damage:g}"
                break
            if last:
                stopped = stopped if any(new.values()) else "no new prompt was confirmed"
                break
            for concept, prompts in new.items():
                found.setdefault(concept, []).extend(prompts)
            edit = self.recipe.made({concept: prompts for concept, prompts in found.items() if prompts})
        assert best is not None
        return replace(best[1], record={**best[1].record, "hardened": self._record(done, stopped)})

    def _fresh(self, arena: Arena, target: Target, number: int) -> list[Counterexample]:
        """Several searches with seeds of their own; their best prompts are drawn and judged."""
        prompts: dict[str, float] = {}
        for n in range(self.searches):
            seeded = replace(arena, seed=arena.seed + 1000 * number + n + 1)
            for each in self.search.attack(seeded, target):
                if each.prompt is not None:
                    prompts.setdefault(each.prompt, each.loss or 0.0)
        chosen = sorted(prompts, key=lambda prompt: prompts[prompt])[: self.per_round]
        return self._judged(arena, target, chosen)

    def _judged(self, arena: Arena, target: Target, prompts: Sequence[str]) -> list[Counterexample]:
        if not prompts:
            return []
        hits = arena.judged(arena.draw(prompts, arena.seeds), target)
        size = len(arena.seeds)
        return [
            Counterexample(prompt, tuple(bool(hit) for hit in hits[n * size : (n + 1) * size]))
            for n, prompt in enumerate(prompts)
        ]

    def _new(self, fresh: Sequence[Counterexample], known: Sequence[str]) -> list[str]:
        """Confirmed prompts that are no near-duplicates of each other or of known ones."""
        kept: list[str] = []
        encoder, gram = self.arena.model.encoder, self.arena.model.gram
        for each in sorted(fresh, key=lambda each: -sum(each.hits)):
            if any(each.hits) and each.prompt not in known and not near_duplicate(encoder, gram, each.prompt, kept):
                kept.append(each.prompt)
        return kept

    def _transfer(self, arena: Arena, found: Mapping[str, Sequence[str]]) -> float | None:
        shown = [
            hit
            for target in self.targets
            for each in self._judged(
                replace(arena, seeds=arena.seeds[:1]), target, found.get(target.concept, ())[-TRANSFERRED:]
            )
            for hit in each.hits
        ]
        return sum(shown) / len(shown) if shown else None

    def _alone(self, arena: Arena, fresh: Mapping[str, Sequence[Counterexample]]) -> dict[str, str]:
        """Protected words of confirmed prompts that bring the concept back by themselves."""
        vocabulary = self.recipe.vocabulary if self.recipe.vocabulary is not None else self.recipe.model.own_words()
        protected, culprits = {*vocabulary}, {}
        for target in self.targets:
            used = {word for each in fresh[target.concept] if any(each.hits) for word in each.prompt.split()}
            words = sorted(word for word in used & protected if not target.naming(word))
            for each in self._judged(arena, target, words):
                if sum(each.hits) * 2 > len(each.hits):
                    culprits[each.prompt] = target.concept
        return culprits

    def _record(self, rounds: Sequence[Round], stopped: str) -> dict[str, Any]:
        return {
            "stopped": stopped,
            "weight": self.weight,
            "search": {
                name: value for name, value in vars(self.search).items() if isinstance(value, str | int | float)
            },
            "rounds": [each.as_dict() for each in rounds],
        }


def _share(some: Sequence[Counterexample]) -> float:
    hits = [hit for each in some for hit in each.hits]
    return sum(hits) / len(hits) if hits else 0.0
