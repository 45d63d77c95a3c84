"""Hard edits: exact, idempotent, singular, of least damage; and the figures that say what hardness costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st

import editkit
from editkit.edits.compose import scale
from editkit.edits.edit_map import EditMap
from editkit.edits.figures import measure
from editkit.edits.hard import hard
from editkit.edits.null_space import null_space
from editkit.edits.problem import Rows
from editkit.edits.recovery import Recovery
from editkit.edits.solve import Penalty, leverages, solve
from editkit.errors import EditkitError
from tests.cases import Case, cases, eye, forall, plain, randn


def two_concepts(case: Case) -> list[Rows]:
    """Single rows, so that a concept is one direction."""
    return [Rows(randn(n + 70, 1, case.d), randn(n + 80, 1, case.d)) for n in range(2)]


@forall(cases(), st.sampled_from([0.0, 0.3, 3.0]))
def test_it_is_exact_idempotent_and_singular(case: Case, weight: float) -> None:
    rows = two_concepts(case)
    edit = hard(rows, Penalty.of(0.1, case.P, case.d), case.gram, 1, weight)
    M = edit.dense()
    for each in rows:
        assert float((edit.embeddings(each.source) - each.target).norm()) < 1e-8 * float(each.target.norm())
        assert float((edit.embeddings(each.target) - each.target).norm()) < 1e-8 * float(each.target.norm())
    assert float((M @ M - M).norm()) < 1e-8 * float(M.norm())
    assert edit.kernel_rank == 2 and int(torch.linalg.matrix_rank(M, rtol=1e-9)) == case.d - 2


@forall(cases())
def test_its_floor_is_that_of_the_closed_form(case: Case) -> None:
    rows = two_concepts(case)
    edit = hard(rows, Penalty.of(0.1, case.P, case.d), case.gram, 1, 0.5)
    C = torch.cat([each.source for each in rows])
    X = torch.linalg.lstsq(
        torch.cat([each.target - each.source for each in rows]).T, edit.dense() - eye(case.d)
    ).solution
    inverse = torch.linalg.inv(X @ torch.linalg.inv(case.gram) @ X.T)
    for n, each in enumerate(rows):
        expected = (inverse.diagonal()[n] / (C[n] @ case.gram @ C[n])).sqrt()
        assert Recovery.of(edit, case.gram).floor(each.source) == pytest.approx(float(expected), rel=1e-5)


@forall(cases())
def test_no_other_exact_map_costs_less(case: Case) -> None:
    rows, penalty = two_concepts(case), Penalty.of(0.1, case.P, case.d)
    edit = hard(rows, penalty, case.gram, 1, 0.0)
    K = torch.cat([*(each.source for each in rows), *(each.target for each in rows)])
    moves = torch.cat([each.target - each.source for each in rows])
    X = torch.linalg.lstsq(moves.T, edit.dense() - eye(case.d)).solution
    other = torch.linalg.svd(K).Vh[4:]  # what X may read besides
    B = penalty.matrix()
    cost = float((X @ B @ X.T).trace())
    for seed in range(3):
        moved = X + 0.1 * randn(seed, 2, len(other)) @ other
        assert float((moved @ K.T - X @ K.T).abs().max()) < 1e-9
        assert float((moved @ B @ moved.T).trace()) > cost


@forall(cases(), st.floats(0.01, 100))
def test_a_soft_edit_goes_b_over_one_plus_b_of_the_way(case: Case, scale: float) -> None:
    penalty = Penalty.of(0.1, case.P, case.d)
    c, target = case.C[:1], case.T[:1]
    (b,) = leverages([c], penalty, scale)
    assert b is not None
    moved = solve(c, target, penalty, scale).embeddings(c) - c
    assert torch.allclose(moved, b / (1 + b) * (target - c), rtol=1e-7, atol=1e-9)
    assert leverages([c], Penalty.of(0.0, None, case.d)) == (None,)


def test_a_higher_floor_costs_more_damage() -> None:
    rows, words = Rows(randn(1, 1, 16), randn(2, 1, 16)), randn(3, 40, 16)
    gram = words.T @ words / 40 + eye(16)
    penalty = Penalty.of(1e-3, words, 16)
    edits = [hard([rows], penalty, gram, 1, weight) for weight in (0.0, 1.0, 100.0)]
    floors = [Recovery.of(edit, gram).floor(rows.source) for edit in edits]
    damages = [float((edit.embeddings(words) - words).square().sum()) for edit in edits]
    assert floors == sorted(set(floors)) and damages == sorted(set(damages))


@forall(cases())
def test_it_holds_a_null_space_exactly(case: Case) -> None:
    options = plain("uce", "null", null_threshold=0.0, hard=True, floor_weight=0.0)
    words = type(case.protected)(("a",), (case.protected.rows[0][:1],))
    problem = type(case.problem())((Rows(case.C[:1], case.T[:1]),), None, case.weights, case.gram, words)
    solution = options.solve(problem)
    edit = solution.maps["*"]
    assert float((edit.embeddings(words.rows[0]) - words.rows[0]).norm()) < 1e-9
    assert float((edit.embeddings(case.C[:1]) - case.T[:1]).norm()) < 1e-7 * float(case.T.norm())
    figures = measure(solution, problem, protected=True, checked=False)
    assert figures.kernel_rank == 1 and figures.recovery_floor > 1e-4
    assert null_space(words.mean_moment, 0.0, None, case.C).shape[1] == case.d - 1


def test_what_cannot_be_hard_is_refused() -> None:
    C, target = randn(1, 1, 8), randn(2, 1, 8)
    same = [Rows(C, target), Rows(C, randn(3, 1, 8))]
    with pytest.raises(EditkitError, match="fewer --hard-directions than 1, or another --guide"):
        hard(same, Penalty.of(0.1, None, 8), eye(8), 1, 0.0)
    with pytest.raises(EditkitError, match="leaves nothing to derive"):
        editkit.Options("rece", hard=True)
    with pytest.raises(EditkitError, match="--hard: is one map for all layers"):
        editkit.Options("uce", protect="none", technique="tensor", hard=True)


def test_on_the_bundled_model_a_hard_edit_has_a_floor_and_a_part_of_it_warns() -> None:
    soft, edit = (
        editkit.erase("emoji", ["church"], options=editkit.Options("uce", hard=hard)) for hard in (False, True)
    )
    (before,), (after,) = (each.record["figures"]["each_concept"] for each in (soft, edit))
    assert before["recovery_floor"] < 1e-3 < 0.2 < after["recovery_floor"]
    assert edit.record["figures"]["kernel_rank"] == 2 > soft.record["figures"]["kernel_rank"] == 0
    assert before["leverage"] > 1
    with pytest.warns(UserWarning, match="can be inverted again"):
        assert scale(edit, 0.5).map.kernel_rank == 0


def test_an_identity_loses_nothing() -> None:
    assert EditMap.identity(4).kernel_rank == 0
