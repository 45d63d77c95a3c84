"""What every closed-form method has in common: its options, protection, and the ridge regression under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from editkit.edits.edit import EVERYWHERE
from editkit.edits.edit_map import EditMap
from editkit.edits.hard import hard
from editkit.edits.null_space import null_space, orthogonal_to
from editkit.edits.perturb import perturbed
from editkit.edits.problem import Problem, Solution
from editkit.edits.protect import ProtectedWords, minimax, prior
from editkit.edits.solve import Penalty, leverages, solve, solve_moments
from editkit.errors import EditkitError
from editkit.options import assign_options, check_options, in_case, option, settle
from editkit.plugins import GROUPS, load

Tokens = Literal["last", "tail", "all", "eot", "ends", "around"]
TOKENS: tuple[Tokens, ...] = ("last", "tail", "all", "eot", "ends", "around")
Layers = Literal["all", "v"]
LAYERS: tuple[Layers, ...] = ("all", "v")
ROWS_HELP = (
    "Rows of a prompt: the last subject token's, from there to the end, all, the end token's, the last subject token's "
    "and the end token's, or all but the subject's."
)
RIDGE_HELP = "Ridge weight λ."
"""Of options whose published default differs from method to method."""
LAYERS_HELP = "What is edited: keys and values, or values alone."
PROTECT_HELP = (
    "Hold a vocabulary where it is: the most damaged word most, every word alike (prior), exactly but for "
    "directions that hardly any word uses (null), or not: the method as published (none)."
)
STRENGTH_HELP = "Weight μ of the protected vocabulary."
CAPTIONS_HELP = "Weight of the captions of --prior."
PROTECTIONS = ("minimax", "prior", "null", "none")
EXPANSIONS = ("none", "artist", "object")
UNPROTECTED, NULL = "--protect none", "--protect null"
"""Cases whose defaults are those of papers."""


@dataclass(frozen=True)
class Method:
    """A closed-form method: options, and `solve`.

    Unprotected, the sums are those of the papers, and so are the defaults. With a protected vocabulary the erased and
    the preserved rows enter as means, so that `lamb` and `strength` mean the same for one concept and for a hundred;
    the defaults are then what was measured on the bundled model.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    takes_found: ClassVar[bool] = True
    """Whether prompts that brought a concept back can be erased with it."""

    protect: str = option("minimax", PROTECT_HELP, choices=PROTECTIONS)
    tokens: Tokens = option(
        "tail",
        ROWS_HELP,
        choices=TOKENS,
        otherwise={UNPROTECTED: "all"},
    )
    layers: Layers = option("all", LAYERS_HELP, choices=LAYERS)
    lamb: float = option(1e-4, RIDGE_HELP, at_least=0, otherwise={UNPROTECTED: 0.1})
    erase_scale: float = option(1.0, "Weight of the erased concepts.", above=0)
    preserve_scale: float = option(1.0, "Weight of the preserved prompts.", at_least=0)
    expand: str = option("none", "Prompts that an unprotected edit is solved over.", choices=EXPANSIONS)
    strength: float = option(0.5, STRENGTH_HELP, at_least=0)
    rounds: int = option(5, "Rounds of minimax.", at_least=0)
    prior_strength: float = option(0.5, CAPTIONS_HELP, at_least=0)
    null_threshold: float = option(
        1e-3, "With null, eigenvalues of the vocabulary that count as none, in shares of their mean.", at_least=0
    )
    hard: bool = option(
        False,
        "A singular map: sums of a concept's rows become the guide's exactly, and no embedding brings them back whole.",
        flag="--hard/--soft",
    )
    hard_directions: int = option(2, "Sums of each concept's rows that a hard edit sends exactly.", above=0)
    floor_weight: float = option(
        30.0, "Of a hard edit: a larger one damages more and lets embeddings bring back less.", at_least=0
    )
    perturb: int = option(
        0, "Copies of every erased row with noise, erased along; noise spares what is protected.", at_least=0
    )
    perturb_scale: float = option(
        1.0, "Length of that noise; 1 is that of the way from a row to its target.", at_least=0
    )

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name", cls.__name__.lower())

    def __post_init__(self) -> None:
        settle(self, in_case(type(self), f"--protect {self.protect}"))
        check_options(self)
        if self.expand != "none" and self.is_protected:
            raise EditkitError("--expand: a protected edit brings its own templates; use --protect none with it")

    @property
    def is_protected(self) -> bool:
        return self.protect != "none"

    @property
    def guide(self) -> str:
        """What a concept becomes where the user says nothing."""
        return "average" if self.is_protected else " "

    @property
    def holds_each_word(self) -> bool:
        """Whether an edit is refused that damages one word by more than its own size, or only where their mean is."""
        return self.is_protected

    @property
    def reads_projections(self) -> bool:
        """Whether the map depends on the checkpoint's projections, and not on its text encoder alone."""
        return self.protect == "minimax" or self.perturb > 0 or (self.hard and self.floor_weight > 0)

    @property
    def reads_empty(self) -> bool:
        """Whether it needs the rows of the empty prompt."""
        return False

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return {"method": self.name, **asdict(self)}

    def map(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        """The map that erases the rows of `problem` under `penalty`: what a method is. Here that of TIME and UCE."""
        return ridge(problem, penalty, erase_scale)

    def _solved(self, problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
        if not self.hard:
            return self.map(problem, penalty, erase_scale)
        rows = (*problem.rows, *problem.found)
        return hard(rows, penalty, problem.gram, self.hard_directions, self.floor_weight)

    def held(self, problem: Problem) -> Tensor | None:
        """Rows that must stay exactly where they are, `(m, d)`, or None: with a null space the preserved prompts."""
        return problem.preserve if self.protect == "null" else None

    def maps(self, problem: Problem, penalty: Penalty, erase_scale: float) -> tuple[Mapping[str, EditMap], Penalty]:
        """The maps of all layers, and the penalty with what protection added. One map serves all layers."""
        words = problem.protected if self.is_protected else None
        penalty = replace(penalty, allowed=self._allowed(problem, words))
        if words is not None and self.protect == "minimax":

            def solve_with(held: Penalty) -> EditMap:
                return self._solved(problem, held, erase_scale)

            edit, penalty = minimax(solve_with, words, problem.gram, penalty, self.strength, self.rounds)
            return {EVERYWHERE: edit}, penalty
        if words is not None:
            penalty = prior(words, penalty, self.strength)
        return {EVERYWHERE: self._solved(problem, penalty, erase_scale)}, penalty

    def _allowed(self, problem: Problem, words: ProtectedWords | None) -> Tensor | None:
        held = self.held(problem)
        if words is not None and self.protect == "null":
            C = problem.moments.rows if problem.is_tall else problem.C
            return null_space(words.mean_moment, self.null_threshold, held, C)
        return None if held is None else orthogonal_to(held)

    def scale_for(self, problem: Problem) -> float:
        """`s_e`: the weight of one row that is erased."""
        held = problem.protected if self.is_protected else None
        return self.erase_scale / (1 if held is None else problem.count)

    def solve(self, problem: Problem) -> Solution:
        """The maps of `problem`.

        Raises:
            EditkitError: the vocabulary to protect is empty, or the equations are singular.
        """
        d = problem.gram.shape[0]
        protected = problem.protected if self.is_protected else None
        if protected is not None and not protected.words:
            raise EditkitError(
                f"--protect {self.protect}: no word is left in the vocabulary; "
                "give a larger --vocabulary, or use --protect none"
            )
        erase_scale = self.scale_for(problem)
        share = 1 if protected is None or problem.preserve is None else len(problem.preserve)
        penalty = Penalty.of(self.lamb, problem.preserve, d, self.preserve_scale / share, problem.gram.device)
        if problem.captions is not None:
            penalty = penalty.with_prior(self.prior_strength * problem.captions)
        if self.perturb:
            held = penalty if protected is None else prior(protected, penalty, self.strength)
            problem = problem.with_found(perturbed(problem.rows, held, problem.gram, self.perturb_scale, self.perturb))
        maps, penalty = self.maps(problem, penalty, erase_scale)
        inside = penalty.coordinates(problem.moments.rows if problem.is_tall else problem.C)
        B = penalty.inside().matrix() + erase_scale * inside.T @ inside
        levers = leverages([rows.source for rows in problem.rows], penalty, erase_scale)
        return Solution(maps, B, penalty.allowed, levers)


def ridge(problem: Problem, penalty: Penalty, erase_scale: float) -> EditMap:
    """`solve` of all rows of `problem`; of more rows than dimensions by their moments, which are summed once."""
    if not problem.is_tall:
        return solve(problem.C, problem.targets, penalty, erase_scale)
    return solve_moments(problem.moments.sources, problem.moments.crossed, penalty, erase_scale)


def Options(method: str = GROUPS["methods"].default, **given: Any) -> Method:
    """The options of a closed-form method by name; what is not given (or None) has its default.

    Args:
        method: a name of `editkit.methods()`.
        given: its options.

    Raises:
        EditkitError: no method has that name, it has no such option, or the option cannot have that value.

    >>> Options().name, Options().lamb, Options(protect="none").lamb
    ('rece', 0.0001, 0.1)
    >>> Options("uce", protect="none", lamb=0.3).lamb
    0.3
    """
    kind, what = load("methods", method), f"method {method}"
    return kind(**assign_options({what: kind}, given)[what])
