"""The figures that every edit reports. None of them needs a picture."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.edits.edit import EVERYWHERE
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix, norm
from editkit.edits.moments import in_chunks
from editkit.edits.null_space import left_out
from editkit.edits.problem import Problem, Solution
from editkit.edits.recovery import Recovery
from editkit.errors import EditkitError

BLOW_UP = 1.0
SHORT = 1e-4
"""Shares of an edit's longest direction up to which directions are left out of what weights change: to its square
they add at most 1e-8 of that of the longest."""


@dataclass(frozen=True)
class Figures:
    """See `measure` for what each figure means."""

    erasure_residual: float
    recovery_norm: float | None
    recovery_floor: float
    rank: int
    kernel_rank: int
    each_concept: tuple[dict[str, float | None], ...]
    weight_change_median: float
    weight_change_worst: float
    worst_layer: str
    condition: float | None
    free_directions: int | None = None
    free_energy: float | None = None
    damage_words: int = 0
    damage_mean: float | None = None
    damage_p95: float | None = None
    damage_worst: float | None = None
    worst_words: tuple[tuple[str, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(solution: Solution, problem: Problem, protected: bool = False, checked: bool = True) -> Figures:
    """Measure an edit against what it was asked to do.

    - erasure residual: `‖W M C − W C*‖ / ‖W C − W C*‖`; 0 is perfect.
    - recovery norm: `‖C'‖ / ‖C‖` of the cheapest embedding that brings the concept back to within 10 %.
    - recovery floor: what no embedding brings back, of the concept with the least; and of each concept, with its
      leverage: see `editkit.edits.solve.leverages`.
    - kernel rank: directions that the map sends to nothing; 0 where it can be inverted.
    - rank of `M − I`; relative weight change `‖ΔW‖ / ‖W‖`, median and worst layer; condition number of `B`, None where
      it is infinite.
    - with a null space, how many directions the edit may read, and the share of the vocabulary's energy in them.
    - damage of the vocabulary's words: how many were looked at, mean, 95th percentile, worst, the worst ten by name.

    Where every layer has a map of its own, the residual, recovery, rank and damage are those of the first.

    Args:
        protected: every word counts, not only their mean: see `blow_up`.
        checked: refuse an edit that blows up; else warn of it.

    Raises:
        EditkitError: the edit is not finite, or blows up.
    """
    gram, vocabulary = problem.gram, problem.protected
    first, edit = next(iter(solution.maps.items()))
    if first != EVERYWHERE:
        gram = gram_matrix([problem.projections[first]], len(gram))
    asked, left = (_missed(problem, reached, gram) for reached in (EditMap.identity(len(gram), gram.device), edit))
    changes = weight_changes(solution.maps, problem.projections)
    damage = vocabulary.damage(edit, gram) if vocabulary is not None and vocabulary.words else None
    check_finite(changes)
    if (reason := blow_up(changes, damage, protected)) is not None:
        if checked:
            raise EditkitError(f"{reason}, or give --unchecked to have it as it is")
        warnings.warn(reason, stacklevel=2)
    recovery = Recovery.of(edit, gram)
    floors = [recovery.floor(rows.source.double()) for rows in problem.rows]
    ordered = sorted(changes.items(), key=lambda item: item[1])
    figures: dict[str, Any] = {
        "erasure_residual": left / asked if asked > 0 else 0.0,
        "recovery_norm": recovery.norm(problem.own_moments.rows if problem.is_tall else problem.own.source),
        "recovery_floor": min(floors),
        "rank": edit.rank,
        "kernel_rank": edit.kernel_rank,
        "each_concept": tuple(
            {"leverage": lever, "recovery_floor": floor} for lever, floor in zip(solution.leverage, floors, strict=True)
        ),
        "weight_change_median": ordered[len(ordered) // 2][1],
        "weight_change_worst": ordered[-1][1],
        "worst_layer": ordered[-1][0],
        "condition": condition_number(solution.B),
    }
    if vocabulary is not None and solution.allowed is not None:
        figures |= {
            "free_directions": solution.allowed.shape[1],
            "free_energy": left_out(vocabulary, solution.allowed),
        }
    if vocabulary is not None and damage is not None:
        worst = damage.argsort(descending=True)[:10].tolist()
        figures |= {
            "damage_words": len(vocabulary.words),
            "damage_mean": float(damage.mean()),
            "damage_p95": float(damage.quantile(0.95)),
            "damage_worst": float(damage.max()),
            "worst_words": tuple((vocabulary.words[j], float(damage[j])) for j in worst),
        }
    return Figures(**figures)


def _missed(problem: Problem, edit: EditMap, gram: Tensor) -> float:
    """`‖W M C − W C*‖` of the concepts' own rows: of many by their moments, unless nearly nothing is left."""
    known = problem.own_moments.left(edit.dense(), gram) if problem.is_tall else None
    if known is not None:
        return known
    pairs = in_chunks((rows.source, rows.target) for rows in problem.rows)
    return sum(norm(edit.embeddings(C) - targets, gram) ** 2 for C, targets in pairs) ** 0.5


def weight_changes(maps: Mapping[str, EditMap], projections: Mapping[str, Tensor]) -> dict[str, float]:
    """Layer → `‖ΔW‖ / ‖W‖`."""
    changes = {}
    moves = {id(edit): _long_enough(edit.shortest.U).float() for edit in maps.values()}
    for name, W in projections.items():
        edit = maps.get(name, maps.get(EVERYWHERE))
        if edit is None:
            continue
        exact = W.float()
        size = float(exact.norm())
        change = float((exact @ moves[id(edit)]).norm())  # the rows of its V are orthonormal: ‖W U V‖ = ‖W U‖
        changes[name] = change / size if size != 0 else 0.0
    return changes


def _long_enough(U: Tensor) -> Tensor:
    """The longest columns of `U` `(d, r)`, which are orthogonal: `‖W U‖²` lacks at most `‖W‖²` times the square of the
    longest one that is left out."""
    sizes = U.norm(dim=0)
    return U if not bool(sizes.isfinite().all()) else U[:, sizes > SHORT * sizes.max()]


def check_finite(changes: Mapping[str, float]) -> None:
    """Refuse changes of weights, layer → `‖ΔW‖ / ‖W‖`, that are not finite.

    Raises:
        EditkitError: naming the layer.
    """
    for name, change in changes.items():
        if not change < float("inf"):
            raise EditkitError(
                f"the edit is not finite in {name}; use a larger --lamb or check the checkpoint's weights"
            )


def blow_up(changes: Mapping[str, float], damage: Tensor | None, protected: bool) -> str | None:
    """Why an edit would break the checkpoint, or None where it would not.

    The measure is what common words feel, `damage` `(words,)`. A protected edit may damage no word by more than its own
    size, an unprotected one not the mean of them: published edits damage half of that and some words more. Weights say
    less: a protected edit is free to move them far in directions that no word uses, and does (6 times their norm, with
    less damage than a quarter of it done without protection). They are asked where there are no words.
    """
    if damage is None:
        name, worst = max(changes.items(), key=lambda item: item[1])
        if worst <= BLOW_UP:
            return None
        return (
            f"the edit blows up: {name} would change by {worst:.4g} times its own norm, allowed is {BLOW_UP:g}; "
            "use a larger --lamb or --reg, fewer --epochs, or preserve more"
        )
    feels = float(damage.max() if protected else damage.mean())
    if feels <= BLOW_UP:
        return None
    whose, remedy = ("the worst of the protected words", "--lamb or --strength") if protected else (
        f"the mean of {len(damage)} common words", "--lamb or --reg"
    )  # fmt: skip
    return (
        f"the edit blows up: {whose} would change by {feels:.4g} of its size, allowed is {BLOW_UP:g}; "
        f"use a larger {remedy}, or fewer --epochs"
    )


def condition_number(B: Tensor) -> float | None:
    """Largest over smallest eigenvalue of the symmetric `B`; None where that is infinite."""
    values = torch.linalg.eigvalsh(B)
    condition = float(values[-1] / values[0]) if values[0] > 0 else math.inf
    return condition if math.isfinite(condition) else None
