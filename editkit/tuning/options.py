"""How a gradient stage is run: each option once, with one set of defaults by objective, recipe and model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, cast

from editkit.concepts.profile import Profile
from editkit.drawing.sampling import parse_size
from editkit.errors import EditkitError
from editkit.model.placement import STORAGES
from editkit.options import Option, assign_options, check_options, in_case, option, options_of, settle
from editkit.plugins import GROUPS, load, names
from editkit.tuning.anchor import ANCHORS, RULES
from editkit.tuning.latents import DENSITIES
from editkit.tuning.objectives import AUTHORS, Objective
from editkit.tuning.parameters import Parameters
from editkit.tuning.search.request import Search

RECIPES = ("paper", "authors")
PRECISIONS = ("no", "bf16", "fp16")


def _usual(default: Any, help: str, otherwise: Mapping[str, Any] | None = None, **about: Any) -> Any:
    """An option for which an objective or a profile may have another default."""
    return option(default, help, otherwise=otherwise or {}, **about)


@dataclass(frozen=True)
class RefineOptions:
    """One run. What is not given has the default of the objective, changed by the recipe; `of` asks a profile, too.

    >>> RefineOptions().objective, RefineOptions().rate, RefineOptions("ca").rate
    ('ap', 1e-05, 8e-06)
    >>> RefineOptions.of("ca", steps=7).steps, RefineOptions.of(search="exact", probe=3).search
    (7, Exact(search_every=20, probe=3))

    Attributes:
        search: a name of the group `searches`, or what that names with options of its own.
        refresh: None: as many steps as it takes to read as many points as the bank holds. Older latents show what the
            student does no longer draw, and teach less.
        mixed_precision: None: what is fast on the device.
    """

    objective: str = option(GROUPS["objectives"].default, "What the student learns, see `editkit objectives`.")
    param: str = _usual(
        "xattn", "Trained: xattn, kv, selfattn, noxattn, blocks, text, full, lora:RANK, or GROUP+lora:RANK."
    )
    recipe: str = option("paper", "Target and search as in the paper, or in the authors' scripts.", choices=RECIPES)
    steps: int = _usual(1000, "Outer steps.", at_least=1)
    batch: int = _usual(1, "Points of a step, of all processes together.", at_least=1)
    rate: float = _usual(1e-5, "Adam's learning rate of the weights.", above=0)
    lamb: float = _usual(1.0, "Weight λ of the preservation term, for a key of the term with it.")
    eta: float = _usual(1.0, "η of esd, spm, aegis and stereo.")
    anchor: str = _usual(
        "none", "What holds weights near the start: `l2` all alike, `fisher` by how much they matter.", choices=ANCHORS
    )
    anchor_weight: float = _usual(1.0, "How strongly.", above=0)
    anchor_rule: str = _usual(
        "always", "When: at every step, or where a step would lead away, with growing weight.", choices=RULES
    )
    search: str | Search = _usual(
        GROUPS["searches"].default, "How the concept that suffers most is found, see `editkit searches`."
    )
    k: int = _usual(100, "Candidates of a concept: its nearest words.", at_least=1)
    spread: bool = _usual(
        False, "Candidates of so many clusters of the nearest ten times k words.", {"--recipe authors": True}
    )
    bank: bool = _usual(True, "Draw points from a bank of whole trajectories; else one afresh for every point.")
    refresh: int | None = _usual(
        None, "Outer steps until the bank is drawn anew. Default: when all of it was used once, about.", at_least=1
    )
    trajectories: int = _usual(1, "Trajectories of each concept in the bank.", at_least=1)
    sampling_steps: int = _usual(50, "Steps of a trajectory: by DDIM, of a flow by its own scheduler.", at_least=1)
    guidance: float = _usual(3.0, "Guidance of a trajectory.")
    timesteps: str = _usual(
        "even", "Which points are used most: all alike, or those at which a concept takes shape.", choices=DENSITIES
    )
    size: str | None = _usual(None, "Size that is trained at, WIDTHxHEIGHT in pixels. Default: the model's own.")
    seed: int = _usual(0, "Of all randomness but a key's.", at_least=0)
    mixed_precision: str | None = _usual(None, "Precision of the passes. Default: what is fast.", choices=PRECISIONS)
    storage: str | None = _usual(
        None,
        "Keep the network under a LoRA in float8, cast a layer at a time. Default: in the precision of the passes.",
        choices=STORAGES,
    )
    accumulate: int = _usual(1, "Parts that a batch is cut into, to save memory.", at_least=1)
    random_norm: float = _usual(500.0, "Norm of the random states that hirm leads to without a guide.", above=0)
    key_tokens: int = _usual(10, "Rows of a key for each concept.", at_least=1, flag="--tokens")
    rho: float = _usual(1.0, "How far each row of a key may be from the concept's own, as a part of its norm.", above=0)
    key_rate: float = _usual(1e-2, "Adam's learning rate of a key.", above=0)
    gradient_checkpointing: bool = _usual(False, "Compute activations twice, to save memory.")
    save_every: int = _usual(100, "Steps between checkpoints.", at_least=1)
    preview_every: int = _usual(0, "Steps between preview grids; 0: none.", at_least=0)

    def __post_init__(self) -> None:
        usual = load("objectives", self.objective).usual
        settle(self, {**usual, **in_case(type(self), self._recipe)})
        check_options(self)
        Parameters.parse(self.param)
        if self.storage is not None and Parameters.parse(self.param).rank is None:
            raise EditkitError(
                f"--storage {self.storage}: expected a LoRA, whose network is frozen, but --param is {self.param}; "
                "give --param lora:16, or leave it out"
            )
        if self.anchor != "none" and (Parameters.parse(self.param).rank is not None or not self.loss.weights):
            raise EditkitError(
                f"--anchor {self.anchor}: expected whole weights to hold, but --param is {self.param}; give "
                "--param kv or xattn, or leave it out"
            )
        _ = self.pixels
        if isinstance(self.search, str):
            kind = load("searches", self.search)
            object.__setattr__(self, "search", kind(**in_case(kind, self._recipe)))
        if self.batch % self.accumulate:
            raise EditkitError(f"--accumulate: {self.accumulate} parts do not divide a batch of {self.batch}")

    @classmethod
    def of(cls, objective: str = GROUPS["objectives"].default, profile: Profile | None = None, **given: Any) -> Self:
        """The default of `objective` for a model, with what is given, options of the search among it.

        Each has the last of these values that there is: that of its field, the objective's (`Objective.usual`), the
        recipe's, the profile's, the given one. None counts as not given.

        Raises:
            EditkitError: there is no such objective, search or option, or an option cannot have its value.
        """
        given = {name: value for name, value in given.items() if value is not None}
        said = {} if profile is None else _of_profile(profile, objective)
        own = _names(cls)
        run = cls(objective, **{**_only(said, own), **_only(given, own)})
        what = f"search {run.finds.name}"
        more = assign_options({what: type(run.finds)}, {name: given[name] for name in given if name not in own})[what]
        theirs = {} if isinstance(given.get("search"), Search) else _only(said, _names(run.finds))
        return replace(run, search=replace(run.finds, **{**theirs, **more}))

    @property
    def _recipe(self) -> str:
        return f"--recipe {self.recipe}"

    @property
    def finds(self) -> Search:
        """The search, with its options."""
        return cast(Search, self.search)

    @property
    def loss(self) -> Objective:
        if self.recipe == "authors" and self.objective in AUTHORS:
            return AUTHORS[self.objective]
        return load("objectives", self.objective)

    @property
    def searches_words(self) -> bool:
        """Whether there are candidates to encode."""
        return bool(self.loss.search_reads) and self.finds.reads_words

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Height and width of what is trained at; None is the model's own size."""
        return None if self.size is None else parse_size(self.size)

    @property
    def draws(self) -> int:
        """Points of the bank that a step reads, for its loss and for the inner steps of its search."""
        return self.batch * (1 + (self.finds.inner_steps if self.loss.search_reads else 0))

    def micro(self, processes: int) -> int:
        """Rows that one of so many processes runs at a time with gradients."""
        return max(1, self.batch // processes // self.accumulate)

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it: options of the search beside the others."""
        mine = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**mine, "search": self.finds.name, **asdict(self.finds)}

    @property
    def same_run(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that it goes on with."""
        free = ("steps", "save_every", "preview_every", "gradient_checkpointing")
        return {name: value for name, value in self.record.items() if name not in free}


def known_options(objectives: Collection[str]) -> tuple[Option, ...]:
    """The options of a run, each with what some of `objectives` have other defaults for: for flags."""
    usual = {name: load("objectives", name).usual for name in objectives}
    return tuple(
        replace(
            known,
            otherwise={
                **{f"--objective {name}": own[known.name] for name, own in usual.items() if known.name in own},
                **known.otherwise,
            },
        )
        for known in options_of(RefineOptions)
    )


def _names(component: Any) -> list[str]:
    return [known.name for known in options_of(component)]


def _only(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _of_profile(profile: Profile, objective: str) -> dict[str, Any]:
    """Its options with the rate of the objective, checked: an error must name the profile."""
    said, rates = dict(profile.refine.options), profile.refine.rates
    try:
        for name in rates:
            load("objectives", name)
        if objective in rates:
            said["rate"] = rates[objective]
        kinds = {"refine": RefineOptions} | {f"search {name}": load("searches", name) for name in names("searches")}
        for what, own in assign_options(kinds, said).items():
            kinds[what](**own)
    except EditkitError as error:
        raise EditkitError(f"profile {profile.name}, refine: {error}") from error
    return said


def chosen_objective(objective: str | None, adversarial: bool) -> str:
    """`--adversarial` is `--objective ap`.

    Raises:
        EditkitError: both are given and do not agree.
    """
    if adversarial and objective not in (None, "ap"):
        raise EditkitError(
            f"--adversarial is --objective ap, but --objective {objective} is given; drop one of the two"
        )
    return "ap" if adversarial else objective or GROUPS["objectives"].default
