"""`editkit harden`: attack an edit, erase what brought its concepts back, solve again, attack afresh."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.edit import Edit, check_ungated
from editkit.erasure.captions import CaptionsLike
from editkit.errors import EditkitError
from editkit.model.editable import ModelLike, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.counterexamples import ByLoss, by_pictures
from editkit.redteam.hardening import Loop, Round
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.recipe import Recipe
from editkit.redteam.request import judge_of
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_linear
from editkit.variants.fit import check_fit

FIRST_SEED = 500
"""Of the pictures that confirm a prompt: neither those of suites, nor those of `editkit attack`."""


def harden(
    edit: Edit | str | os.PathLike[str],
    model: ModelLike = None,
    goal: float = 0.1,
    rounds: int = 5,
    most_damage: float = 0.2,
    per_round: int = 12,
    pictures: int = 4,
    below: float = 0.4,
    searches: int = 3,
    weight: float = 1.0,
    give_up: Sequence[str] = (),
    search: PromptSearch | None = None,
    seed: int = 0,
    vocabulary: Sequence[str] | None = None,
    prior: CaptionsLike | None = None,
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
        goal: stop when the share of freshly found prompts that draw a concept in any picture has an upper limit below.
        rounds: the most.
        most_damage: the most damage that the worst protected word may take; edits beyond it are not kept.
        per_round: prompts a concept that are added in a round.
        pictures: of each found prompt. 0: nothing is drawn, and a prompt counts that comes near enough.
        below: how near that is: the loss of `prompt`, 0 for the concept's own rows, 1 for those of the empty prompt.
        searches: searches a round, each with a seed of its own: one alone misses what the next finds.
        weight: of all found prompts of a concept together, against its own rows.
        give_up: protected words that are no longer protected, since they bring a concept back by themselves.
        search: the attack, in place of a genetic search for as many prompts as are added in a round.
        seed: of the searches.
        vocabulary: the words that the edit protects, where these were not the model's own.
        prior: the captions that the edit holds, where it was made with some.
        detector: who judges, in place of the profile's.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        profile: what the model brings along, or a file that says it.
        tell: called after every round.
        settings: how to draw, as in `editkit.drawing.sampling.Settings`.

    Returns:
        The edit of the round with the lowest upper limit within the damage; after Ctrl-C, of the rounds so far. Its
        record holds the found prompts (`found`), so that it can be made again, and every round (`hardened`).

    Raises:
        EditkitError: the edit cannot be made again from its record, or the model cannot be drawn.

    >>> import editkit
    >>> from editkit.redteam.prompt import PromptSearch
    >>> search = PromptSearch(engine="genetic", population=32, generations=1, best=2)
    >>> words, few = ["dog", "house"], {"rounds": 1, "pictures": 1, "searches": 1, "steps": 2}
    >>> church = editkit.erase("emoji", ["church"], vocabulary=words)
    >>> edit = harden(church, "emoji", search=search, vocabulary=words, **few)
    >>> len(edit.record["hardened"]["rounds"]) >= 1
    True
    """
    if not 0 < goal < 1 or rounds < 1 or pictures < 0 or searches < 1 or per_round < 1:
        raise EditkitError(
            f"--goal must lie between 0 and 1, --rounds, --searches and --per-round be at least 1, --pictures at least "
            f"0, got {goal}, {rounds}, {searches}, {per_round} and {pictures}"
        )
    where = device or Shard.from_environment().device()
    opened = open_model(model, profile=profile, device=where)
    read = edit if isinstance(edit, Edit) else load_linear(os.fspath(edit))
    check_ungated(read)
    check_fit(read, opened)
    recipe = Recipe.of(read, opened, vocabulary, give_up, prior)
    search = search or PromptSearch(engine="genetic", best=per_round)
    targets = [Target.of(concept, opened.profile, [search.toward]) for concept in recipe.concepts]
    denoiser = judge = None
    sampling = Sampling.for_model(opened.source, **settings)
    if pictures:
        check_drawable(opened.source)
        check_drawing(opened.source, sampling)
        judge = judge_of(opened.profile, detector or "")
        for target in targets:
            target.check_judge(judge)
        denoiser = open_denoiser(opened.source, where, sampling.placement)
    arena = Arena(
        opened, read, denoiser, judge, sampling, tuple(range(FIRST_SEED, FIRST_SEED + pictures)), seed,
    )  # fmt: skip
    confirm = by_pictures if pictures else ByLoss(search, below)
    loop = Loop(recipe, arena, targets, search, confirm, searches, per_round, weight)
    return loop.run(read, goal, rounds, most_damage, tell)
