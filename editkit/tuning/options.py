"""How a gradient stage is run, with the papers' values as defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from editkit.concepts.profile import Profile
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.tuning.objectives import AUTHORS, OBJECTIVES, Objective
from editkit.tuning.parameters import Parameters

SEARCHES = ("gumbel", "exact", "closed-form")
RECIPES = ("paper", "authors")
REFINED = tuple(name for name, one in OBJECTIVES.items() if "p" not in one.student)
"""Objectives of `editkit refine`; those that train a key are `hide`'s and `recover`'s."""
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class RefineOptions:
    """One run. `defaults` gives what suits an objective and a model.

    Attributes:
        objective: of `editkit.tuning.objectives.OBJECTIVES`.
        param: which parameters are trained, see `editkit.tuning.parameters.Parameters.parse`.
        recipe: `paper`, or `authors`: the target of ESD and a loss on x₀, as the authors' code has them.
        steps, batch, rate: outer steps, points of each (of all processes together), and Adam's learning rate.
        lamb: λ, weight of the preservation term.
        eta: η of `esd`.
        search: how `a` is found. `k` candidates a concept, the nearest of the vocabulary, or `spread`: k clusters' of
            the nearest `10 k`.
        search_steps, search_rate, tau, hard, search_adam: of `gumbel`: N_iter ascent steps of size η before each outer
            step.
        search_every, probe: of `exact` and `closed-form`: outer steps between two searches, and points of each.
        bank: draw points from a bank of whole trajectories; else a fresh trajectory for every point.
        refresh: outer steps until the bank is drawn anew by the current student. None: when as many points were drawn
            from it as it holds. Older latents show what the student does no longer draw, and teach less.
        trajectories: of every concept in the bank.
        sampling_steps, guidance: of the trajectories.
        accumulate: parts that a batch is cut into.
        key_tokens, rho, key_rate: of `hide` and `recover`: rows of a key, how far each may be from its concept's own
            row as a part of that one's norm, and their learning rate.
    """

    objective: str = "ap"
    param: str = "xattn"
    recipe: str = "paper"
    steps: int = 1000
    batch: int = 1
    rate: float = 1e-5
    lamb: float = 1.0
    eta: float = 1.0
    search: str = "gumbel"
    k: int = 100
    spread: bool = False
    search_steps: int = 2
    search_rate: float = 1e-3
    search_adam: bool = False
    tau: float = 2.0
    hard: bool = True
    search_every: int = 20
    probe: int = 2
    bank: bool = True
    refresh: int | None = None
    trajectories: int = 1
    sampling_steps: int = 50
    guidance: float = 3.0
    seed: int = 0
    mixed_precision: str | None = None
    accumulate: int = 1
    key_tokens: int = 10
    rho: float = 1.0
    key_rate: float = 1e-2
    gradient_checkpointing: bool = False
    save_every: int = 100
    preview_every: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            _one_of("--objective", self.objective, REFINED)
        _one_of("--search", self.search, SEARCHES)
        _one_of("--recipe", self.recipe, RECIPES)
        if self.mixed_precision is not None:
            _one_of("--mixed-precision", self.mixed_precision, PRECISIONS)
        Parameters.parse(self.param)
        for name in ("steps", "batch", "k", "search_every", "probe", "trajectories", "sampling_steps"):
            _at_least(name, getattr(self, name), 1)
        for name in ("accumulate", "save_every", "key_tokens", *(() if self.refresh is None else ("refresh",))):
            _at_least(name, getattr(self, name), 1)
        for name in ("search_steps", "preview_every", "seed"):
            _at_least(name, getattr(self, name), 0)
        for name in ("rate", "tau", "rho", "key_rate"):
            if not getattr(self, name) > 0:
                raise EditkitError(f"--{name.replace('_', '-')}: expected a number above 0, got {getattr(self, name)}")
        if self.batch % self.accumulate:
            raise EditkitError(f"--accumulate: {self.accumulate} parts do not divide a batch of {self.batch}")

    @property
    def loss(self) -> Objective:
        if self.recipe == "authors" and self.objective in AUTHORS:
            return AUTHORS[self.objective]
        return OBJECTIVES[self.objective]

    @property
    def draws(self) -> int:
        """Points of the bank that a step reads, for its loss and for the inner steps of its search."""
        inner = self.search_steps if self.loss.search_reads and self.search == "gumbel" else 0
        return self.batch * (1 + inner)

    @property
    def same_run(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that it goes on with."""
        mine = asdict(self)
        for name in ("steps", "save_every", "preview_every", "gradient_checkpointing"):
            del mine[name]
        return mine


AUTHORS_SEARCH = {
    "spread": True, "search_steps": 1, "search_rate": 1e-2, "search_adam": True, "hard": True,
}  # fmt: skip
CONCEPT_ABLATION = {"rate": 8e-6, "batch": 4, "steps": 400, "param": "kv"}
"""2e-6 a picture of the batch, 100 to 400 steps, keys and values."""


def defaults(objective: str = "ap", source: Source | None = None, recipe: str = "paper", **given: Any) -> RefineOptions:
    """The papers' values for `objective`, then what the model's profile says, then what is given (None: not given)."""
    usual: Mapping[str, Any] = CONCEPT_ABLATION if objective == "ca" else {}
    own = {} if source is None else _of_profile(source.profile, objective)
    theirs: Mapping[str, Any] = AUTHORS_SEARCH if recipe == "authors" else {}
    chosen = {**usual, **own, **theirs, **{name: value for name, value in given.items() if value is not None}}
    return replace(RefineOptions(objective=objective, recipe=recipe), **chosen)


def _of_profile(profile: Profile, objective: str) -> dict[str, Any]:
    """Its options with the rate of the objective, checked: an error must name the profile."""
    try:
        for name in profile.refine.rates:
            _one_of("rates", name, tuple(OBJECTIVES))
        found = {**profile.refine.options}
        if objective in profile.refine.rates:
            found["rate"] = profile.refine.rates[objective]
        RefineOptions(**found)
    except EditkitError as error:
        raise EditkitError(f"profile {profile.name}, refine: {error}") from error
    return found


def chosen_objective(objective: str | None, adversarial: bool) -> str:
    """`--adversarial` is `--objective ap`, which is the default.

    Raises:
        EditkitError: both are given and do not agree, or there is no such objective.
    """
    if adversarial and objective not in (None, "ap"):
        raise EditkitError(
            f"--adversarial is --objective ap, but --objective {objective} is given; drop one of the two"
        )
    if objective is not None:
        _one_of("--objective", objective, REFINED)
    return objective or "ap"


def _one_of(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise EditkitError(f"{option}: must be one of {', '.join(known)}, but got {given!r}")


def _at_least(name: str, given: int, least: int) -> None:
    if given < least:
        raise EditkitError(f"--{name.replace('_', '-')}: expected at least {least}, got {given}")
