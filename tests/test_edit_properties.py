"""Theorems about the closed-form edit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from editkit.edits.edit_map import EditMap
from editkit.edits.gram import gram_matrix, norm, square_root
from editkit.edits.method import Method
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords
from editkit.edits.rece import derive
from editkit.edits.recovery import Recovery
from editkit.edits.solve import Penalty, solve
from tests.cases import Case, cases, eye, forall, plain, randn


@forall(cases())
def test_preserving_alone_changes_nothing(case: Case) -> None:
    assert torch.equal(solve(case.C, case.C, Penalty.of(0.1, case.P, case.d)).dense(), eye(case.d))


@forall(cases())
def test_a_large_lamb_is_the_identity(case: Case) -> None:
    edit = case.solved(1e12)
    assert_close(edit.U @ edit.V * 1e12, (case.T - case.C).T @ case.C, rtol=1e-7, atol=1e-7)
    assert_close(edit.dense(), eye(case.d), rtol=0, atol=1e-9)


@forall(cases())
def test_a_vanishing_lamb_reaches_the_targets(case: Case) -> None:
    independent = torch.linalg.qr(case.C.T).Q.T
    edit = solve(independent, case.T, Penalty.of(1e-9, None, case.d))
    assert_close(edit.embeddings(independent), case.T, rtol=0, atol=1e-7)


@forall(cases(), st.floats(0.01, 10), st.floats(0.1, 3))
def test_dual_is_primal(case: Case, lamb: float, scale: float) -> None:
    penalty = Penalty.of(lamb, case.P, case.d)
    dual = solve(case.C, case.T, penalty, scale)
    primal = solve(case.C, case.T, penalty.with_prior(torch.zeros(case.d, case.d, dtype=torch.float64)), scale)
    assert_close(dual.dense(), primal.dense(), rtol=1e-9, atol=1e-9)


@forall(cases(), st.floats(0.01, 10), st.floats(0.1, 3), st.floats(0.1, 3), st.booleans())
def test_first_order_optimality(case: Case, lamb: float, erase: float, preserve: float, with_prior: bool) -> None:
    W0, words = case.weights["k"], case.protected.rows[0]
    penalty = Penalty.of(lamb, case.P, case.d, preserve)
    edit = solve(case.C, case.T, penalty.with_prior(words.T @ words) if with_prior else penalty, erase)

    def gradient(W: Tensor) -> Tensor:
        W = W.clone().requires_grad_()
        loss = erase * (case.C @ W.T - case.T @ W0.T).square().sum() + lamb * (W - W0).square().sum()
        loss = loss + preserve * (case.P @ (W - W0).T).square().sum()
        if with_prior:
            loss = loss + (words @ (W - W0).T).square().sum()
        return torch.autograd.grad(loss, W)[0]

    assert gradient(edit.weight(W0)).norm() < 1e-10 * gradient(W0).norm()


@forall(cases())
def test_rank_is_the_number_of_rows(case: Case) -> None:
    assert case.solved().rank == len(case.C) == int(torch.linalg.matrix_rank(case.solved().dense() - eye(case.d)))
    doubled = solve(case.C.repeat(2, 1), case.T.repeat(2, 1), Penalty.of(0.1, None, case.d))
    assert doubled.rank == len(case.C)


@pytest.mark.parametrize("options", [plain(), plain(technique="tensor"), plain("rece", epochs=3)])
def test_factors_are_never_longer_than_the_width(options: Method) -> None:
    weights = {"k": randn(4, 9, 8)}
    problem = Problem((Rows(randn(1, 30, 8), randn(2, 30, 8)),), None, weights, gram_matrix(weights.values(), 8), None)
    for edit in options.solve(problem).maps.values():
        assert edit.U.shape[1] <= 8


@forall(cases())
def test_editing_weights_is_mapping_embeddings(case: Case) -> None:
    edit, prompt, W = case.solved(), case.protected.rows[0], case.weights["k"]
    assert_close(prompt @ edit.weight(W).T, edit.embeddings(prompt) @ W.T, rtol=1e-11, atol=1e-11)
    assert_close(edit.weight(W), W @ edit.dense(), rtol=1e-11, atol=1e-11)


@forall(cases())
def test_then_is_one_after_the_other(case: Case) -> None:
    first, second, W = (
        case.solved(),
        solve(case.P, 2 * case.P.flip(1), Penalty.of(0.1, None, case.d)),
        case.weights["k"],
    )
    assert_close(first.then(second).weight(W), second.weight(first.weight(W)), rtol=1e-11, atol=1e-10)
    swapped = second.then(first).dense() - first.then(second).dense()
    assert_close(swapped, second.dense() @ first.dense() - first.dense() @ second.dense(), rtol=1e-10, atol=1e-10)
    assert swapped.norm() > 1e-6
    assert torch.equal(first.then(EditMap.identity(case.d)).dense(), first.dense())


@forall(cases(), st.floats(-1, 2))
def test_scale_interpolates(case: Case, strength: float) -> None:
    edit = case.solved()
    assert torch.equal(edit.scale(0.0).dense(), eye(case.d))
    assert torch.equal(edit.scale(1.0).dense(), edit.dense())
    assert_close(edit.scale(strength).dense(), torch.lerp(eye(case.d), edit.dense(), strength), rtol=1e-12, atol=1e-12)


@forall(cases(), st.integers(0, 12), st.floats(0.01, 0.9))
def test_truncate_states_its_error(case: Case, rank: int, error: float) -> None:
    edit = case.solved()
    full = edit.dense() - eye(case.d)
    sizes = torch.linalg.svdvals(full)

    def actual(smaller: EditMap) -> float:
        return float((smaller.dense() - edit.dense()).norm() / full.norm())

    smaller, stated = edit.truncate(rank)
    assert smaller.U.shape[1] == min(rank, len(case.C))
    assert stated == pytest.approx(actual(smaller), abs=1e-9)
    assert stated == pytest.approx(float(sizes[rank:].norm() / sizes.norm()), abs=1e-9)  # Eckart and Young
    fewest, stated = edit.truncate(error=error)
    assert stated == pytest.approx(actual(fewest), abs=1e-9)
    kept = fewest.U.shape[1]
    assert stated <= error < float(sizes[kept - 1 :].norm() / sizes.norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8,), (0, 8), (5, 8), (2, 3, 8), (2, 1, 3, 8)])
def test_embeddings_keep_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    edit = solve(randn(1, 3, 8), randn(2, 3, 8), Penalty.of(0.1, None, 8))
    c = randn(3, *shape).to(dtype)
    mapped = edit.embeddings(c)
    assert (mapped.dtype, mapped.shape) == (dtype, c.shape)
    assert_close(mapped, (c.double() @ edit.dense().T).to(dtype))


@forall(cases())
def test_damage_is_the_loop_over_words_and_layers(case: Case) -> None:
    edit, uneven = case.solved(), list(case.protected.rows)
    uneven[0] = uneven[0][:1]
    for damage, rows in zip(
        ProtectedWords(case.protected.words, tuple(uneven)).damage(edit, case.gram), uneven, strict=True
    ):
        change = sum(float((edit.weight(W) @ c - W @ c).square().sum()) for W in case.weights.values() for c in rows)
        size = sum(float((W @ c).square().sum()) for W in case.weights.values() for c in rows)
        assert float(damage) == pytest.approx(change / size, rel=1e-9)


@forall(cases(), st.integers(1, 30))
def test_the_second_moment_is_the_sum_over_words(case: Case, block: int) -> None:
    weights = randn(5, len(case.protected.words)).abs()
    expected = sum(w * rows.T @ rows / len(rows) for w, rows in zip(weights, case.protected.rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("editkit.edits.gram.BLOCK", block)
        moment = case.protected.moment(weights)
    assert_close(moment, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(moment, moment.T)


@forall(cases())
def test_a_square_root_measures_what_the_projections_do(case: Case) -> None:
    edit, words = case.solved(), case.protected
    root = square_root(case.gram)
    assert_close(root.T @ root, case.gram)
    damage = words.sizes(root @ edit.U @ edit.V) / words.sizes(root)
    assert_close(damage, words.damage(edit, case.gram), rtol=1e-9, atol=1e-12)


@forall(cases(), st.sampled_from(["uce", "rece"]))
def test_minimax_over_words_in_single_precision_is_the_same_edit(case: Case, method: str) -> None:
    """The rounds' damages only weigh the words, so they are computed in the precision of the words' rows."""
    options = plain(method, "minimax", lamb=1e-3, **({"epochs": 1} if method == "rece" else {}))
    single = ProtectedWords(case.protected.words, tuple(rows.float() for rows in case.protected.rows))
    same = ProtectedWords(single.words, tuple(rows.double() for rows in single.rows))
    mine, exact = (options.solve(case.problem(words)).maps["*"].dense() for words in (single, same))
    assert (mine - exact).norm() <= 1e-4 * (exact - eye(case.d)).norm()


def damage_of(case: Case, method: str, protect: str, strength: float) -> Tensor:
    options = plain(method, protect, strength=strength, lamb=1e-3, **({"epochs": 1} if method == "rece" else {}))
    return case.protected.damage(options.solve(case.problem(case.protected)).maps["*"], case.gram)


@forall(cases(), st.sampled_from(["uce", "rece"]), st.floats(0.01, 10))
def test_minimax_is_never_worse_than_prior(case: Case, method: str, strength: float) -> None:
    worst = {protect: float(damage_of(case, method, protect, strength).max()) for protect in ("prior", "minimax")}
    assert worst["minimax"] <= worst["prior"]


def test_minimax_lowers_the_worst_damage() -> None:
    C, bystanders = randn(1, 2, 16), [randn(2 + j, 3, 16) for j in range(6)]
    near = torch.cat([C, C[:1]]) + 0.5 * randn(0, 3, 16)  # one word close to what is erased
    words = ProtectedWords(tuple("abcdefg"), (near, *bystanders))
    case = Case(16, C, randn(9, 2, 16), randn(10, 1, 16), {"k": randn(11, 20, 16)}, words)
    assert damage_of(case, "uce", "minimax", 1.0).max() < 0.7 * damage_of(case, "uce", "prior", 1.0).max()


@forall(cases(), st.floats(1e-3, 10), st.floats(1.5, 100))
def test_more_strength_is_less_damage(case: Case, strength: float, times: float) -> None:
    little, much = (float(damage_of(case, "uce", "prior", weight).mean()) for weight in (strength, strength * times))
    assert much < little  # the words are of one size, so their mean damage is what the prior penalises


@forall(cases(), st.floats(1e-3, 10))
def test_derive_satisfies_the_normal_equations_of_eq_7(case: Case, reg: float) -> None:
    edit = case.solved()
    derived = derive(edit, case.gram, case.C, reg)
    right = torch.zeros_like(derived)
    left = reg * derived
    for W in case.weights.values():
        new = edit.weight(W)
        left, right = left + derived @ new.T @ new, right + case.C @ W.T @ new
    assert (left - right).norm() < 1e-10 * right.norm()
    assert (derive(edit, case.gram, case.C, reg * 1.5).norm(dim=1) < derived.norm(dim=1)).all()


@forall(cases())
def test_recovery_is_the_smallest_embedding_within_a_tenth(case: Case) -> None:
    edit, C, gram = case.solved(lamb=10.0), case.C, case.gram

    def missed(log_reg: float) -> float:
        return norm(edit.embeddings(derive(edit, gram, C, 10**log_reg)) - C, gram) / norm(C, gram)

    low, high = -9.0, 8.0
    for _ in range(60):
        low, high = ((low + high) / 2, high) if missed((low + high) / 2) < 0.1 else (low, (low + high) / 2)
    assert missed(low) == pytest.approx(0.1, rel=1e-6)
    assert Recovery.of(edit, gram).norm(C) == pytest.approx(
        float(derive(edit, gram, C, 10**low).norm() / C.norm()), rel=1e-6
    )


def test_recovery_in_closed_form() -> None:
    identity = Recovery.of(EditMap.identity(8), eye(8))
    assert identity.norm(randn(1, 3, 8)) == pytest.approx(0.9, rel=1e-6)
    gone = torch.linalg.qr(randn(1, 8, 1)).Q
    projection = Recovery.of(EditMap(-gone, gone.T), eye(8))
    assert projection.norm(gone.T) is None  # a projection cannot be undone
    assert projection.floor(gone.T) == pytest.approx(1)
    half = (gone.T + torch.linalg.qr(torch.cat([gone, randn(2, 8, 1)], 1)).Q[:, 1]) / 2
    assert projection.floor(half) == pytest.approx(0.5**0.5)


@forall(cases(), st.integers(1, 3))
def test_the_recovery_floor_is_the_residual_of_least_squares(case: Case, lost: int) -> None:
    root = square_root(case.gram)
    U = torch.linalg.qr(randn(3, case.d, lost)).Q
    singular = EditMap(-U, U.T)
    for edit in (case.solved(lamb=10.0), singular):
        A, b = root @ edit.dense(), root @ case.C.T
        missed = A @ torch.linalg.lstsq(A, b, driver="gelsd").solution - b
        floor = Recovery.of(edit, case.gram).floor(case.C)
        assert floor == pytest.approx(float(missed.norm() / b.norm()), abs=1e-5)
        assert (floor < 1e-5) == (edit is not singular)  # an edit by ridge regression can be inverted


@forall(cases(), st.randoms(use_true_random=False), st.sampled_from(["uce", "tensor", "rece", "prior", "minimax"]))
def test_the_order_of_concepts_does_not_matter(case: Case, shuffle: Any, kind: str) -> None:
    rows = [Rows(randn(i + 50, 2, case.d), randn(i + 60, 2, case.d)) for i in range(4)]
    shuffled = shuffle.sample(rows, 4)
    options = {
        "tensor": plain(technique="tensor"),
        "rece": plain("rece", epochs=2),
        "prior": plain("rece", "prior", epochs=1),
        "minimax": plain("uce", "minimax"),
    }.get(kind, plain())
    mine, other = (
        options.solve(Problem(tuple(order), case.P, case.weights, case.gram, case.protected)).maps
        for order in (rows, shuffled)
    )
    assert set(mine) == set(other)
    for name, edit in mine.items():
        assert_close(edit.dense(), other[name].dense(), rtol=1e-8, atol=1e-8)
