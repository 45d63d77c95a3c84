"""`--protect null`: what is protected stays exactly, the rest is the same ridge regression, if there is a rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import editkit
from editkit.edits.figures import measure
from editkit.edits.null_space import left_out, null_space
from editkit.edits.protect import ProtectedWords, prior
from editkit.edits.solve import Penalty, solve
from editkit.errors import EditkitError
from tests.cases import Case, cases, eye, forall, plain, randn


def few_words(case: Case, count: int = 2) -> ProtectedWords:
    """So few that a null space is left: a row each."""
    rows = [words[:1] for words in case.protected.rows[:count]]
    return ProtectedWords(tuple(f"w{n}" for n in range(len(rows))), tuple(rows))


@forall(cases(), st.sampled_from(["uce", "rece", "time"]))
def test_what_is_protected_stays_exactly_and_the_concept_goes(case: Case, method: str) -> None:
    words = few_words(case)
    case = replace(case, P=case.P[:1])
    extra = {"epochs": 2, "joint": False} if method == "rece" else {}
    solution = plain(method, "null", null_threshold=0.0, lamb=1e-6, **extra).solve(case.problem(words))
    edit = solution.maps["*"]
    for held in (*words.rows, case.P):
        assert float((edit.embeddings(held) - held).norm()) < 1e-9 * float(held.norm())
    assert float((edit.embeddings(case.C) - case.C).norm()) > 1e-3
    figures = measure(solution, case.problem(words), protected=True, checked=False)
    assert figures.free_directions == case.d - 3
    assert figures.free_energy is not None and figures.free_energy < 1e-12


@forall(cases())
def test_a_null_space_is_a_prior_of_infinite_weight(case: Case) -> None:
    N = torch.linalg.qr(randn(7, case.d, case.d - 2)).Q
    hard = solve(case.C, case.T, replace(Penalty.of(0.1, case.P, case.d), allowed=N))
    errors = []
    for kappa in (1e4, 1e6):
        soft = solve(case.C, case.T, Penalty.of(0.1, case.P, case.d).with_prior(kappa * (eye(case.d) - N @ N.T)))
        errors.append(float((soft.dense() - hard.dense()).norm() / (hard.dense() - eye(case.d)).norm()))
    assert errors[1] < 1e-3 and errors[1] < 0.05 * errors[0]  # falls as 1/κ


@forall(cases(), st.sampled_from([0.0, 0.1]))
def test_it_is_what_lagrange_multipliers_give_layer_by_layer(case: Case, threshold: float) -> None:
    words = few_words(case, 3)
    case = replace(case, P=case.P[:1])
    options = plain("uce", "null", null_threshold=threshold, lamb=0.1, strength=0.7)
    edit = options.solve(case.problem(words)).maps["*"]
    allowed = null_space(words.mean_moment, threshold, case.P, case.C)
    held = torch.linalg.svd(allowed.T).Vh[allowed.shape[1] :].T  # a basis of what must not be read
    H = prior(words, Penalty.of(0.0, None, case.d), 0.7).prior
    assert H is not None
    share = 1 / len(case.C)
    A = 0.1 * eye(case.d) + H + case.P.T @ case.P + share * case.C.T @ case.C
    none = torch.zeros(held.shape[1], held.shape[1], dtype=torch.float64)
    system = torch.cat([torch.cat([A, held], 1), torch.cat([held.T, none], 1)])
    for name, W in case.weights.items():
        wanted = share * W @ (case.T - case.C).T @ case.C
        right = torch.cat([wanted, torch.zeros(len(W), held.shape[1], dtype=torch.float64)], 1)
        change = torch.linalg.solve(system, right.T)[: case.d].T
        mine = edit.weight(W) - W
        assert float((mine - change).norm()) < 1e-8 * float(change.norm()), name


def test_a_larger_threshold_leaves_more_directions_and_more_energy() -> None:
    words = ProtectedWords(tuple("abcdefgh"), tuple(randn(n, 3, 16) * 3.0**-n for n in range(8)))
    C = randn(20, 2, 16)
    spaces = [null_space(words.mean_moment, threshold, None, C) for threshold in (1e-3, 1e-1, 1.0)]
    for N in spaces:
        assert torch.allclose(N.T @ N, eye(N.shape[1]), atol=1e-12)
    directions, energy = [N.shape[1] for N in spaces], [left_out(words, N) for N in spaces]
    assert directions == sorted(set(directions)) and energy == sorted(set(energy))


@pytest.mark.parametrize(
    ("words", "C", "told"),
    [
        (eye(6), randn(1, 2, 6), "leave no direction to edit"),
        (eye(6)[:3], eye(6)[:2], "lie in the span of what is protected"),
    ],
)
def test_where_nothing_is_left_it_says_what_to_do(words: Tensor, C: Tensor, told: str) -> None:
    protected = ProtectedWords(("a",), (words,))
    with pytest.raises(EditkitError, match=told) as refused:
        null_space(protected.mean_moment, 0.0, None, C)
    assert "larger" in str(refused.value) and "--null-threshold" in str(refused.value)


def test_on_the_bundled_model_the_empty_prompt_is_held_exactly_and_the_concept_is_moved() -> None:
    edit = editkit.erase("emoji", ["church"], preserve=[""], options=editkit.Options("uce", protect="null"))
    (nothing,) = editkit.open_model("emoji").encoder.encode([""])
    figures = edit.record["figures"]
    assert float((edit.map.embeddings(nothing) - nothing).norm() / nothing.norm()) < 1e-6
    assert figures["erasure_residual"] < 0.5 and 0 < figures["free_directions"] < 512
    assert figures["damage_worst"] < 0.05 and figures["free_energy"] < 1e-3
