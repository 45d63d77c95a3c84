"""SPEED and DP against their formulas, layer by layer, and what each of their parts does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import editkit
from editkit.edits.clusters import centres_of
from editkit.edits.dp import interpolated
from editkit.edits.problem import Problem
from editkit.edits.protect import ProtectedWords
from editkit.edits.solve import Penalty
from editkit.edits.speed import influenced
from editkit.embeddings.rows import Tokens
from editkit.erasure.rows import concept_rows
from editkit.errors import EditkitError
from tests import reference, tiny_pipelines
from tests.cases import Case, cases, eye, forall, plain, randn
from tests.test_closed_form import make_case
from tests.test_null_space import few_words


def published(case: Case, words: ProtectedWords, empty: Tensor) -> Problem:
    return replace(case.problem(words), preserve=None, empty=empty)


@forall(cases(), st.sampled_from([0.0, 0.5]), st.booleans())
def test_speed_is_the_formula_of_its_code_layer_by_layer(case: Case, slack: float, augment: bool) -> None:
    words, empty = few_words(case), randn(5, 1, case.d)
    options = plain("speed", "null", null_threshold=0.0, strength=0.0, filter=False, augment=augment, slack=slack)
    solution = options.solve(published(case, words, empty))
    least = torch.linalg.eigh(case.gram).eigenvectors[:, :1].T
    taken = torch.cat([*words.rows, least]) if augment else torch.cat(words.rows)
    expected = reference.speed(case.weights, case.C, case.T, reference.complement(taken), empty, 0.1, slack)
    edit = solution.maps["*"]
    for name, W in case.weights.items():
        mine = edit.weight(W)
        assert float((mine - expected[name]).norm()) < 1e-8 * float(expected[name].norm()), name
    if not slack:
        assert float((edit.embeddings(empty) - empty).norm()) < 1e-9 * float(empty.norm())


@forall(cases(), st.sampled_from(["none", "prior", "minimax"]))
def test_the_empty_prompt_stays_under_every_protection(case: Case, protect: str) -> None:
    empty = randn(6, 4, case.d)
    options = plain("speed", protect, centres=1, augment=False)
    edit = options.solve(replace(case.problem(case.protected), empty=empty)).maps["*"]
    held = torch.cat([empty[:1], empty[1:].mean(0, keepdim=True)])
    assert float((edit.embeddings(held) - held).norm()) < 1e-9 * float(held.norm())
    assert float((edit.embeddings(empty) - empty).norm()) > 1e-6 * float(empty.norm())


@forall(cases())
def test_the_filter_keeps_the_words_that_move_more_than_the_mean_word(case: Case) -> None:
    edit = case.solved()
    shifts = []
    for rows in case.protected.rows:
        squares = [
            float((W @ (edit.embeddings(row) - row)).square().sum()) for W in case.weights.values() for row in rows
        ]
        shifts.append((sum(squares) / len(rows)) ** 0.5)
    mean = sum(shifts) / len(shifts)
    kept = influenced(case.protected, edit, case.gram)
    assert list(kept.words) == [word for word, s in zip(case.protected.words, shifts, strict=True) if s > mean]


def test_centres_are_means_of_clusters_and_no_more_than_rows() -> None:
    heaps = torch.cat([randn(n, 8, 5) * 0.01 + 10 * eye(5)[n] for n in range(3)])
    found = centres_of(heaps, 3)
    means = torch.stack([heaps[8 * n : 8 * n + 8].mean(0) for n in range(3)])
    assert float(torch.cdist(means, found).amin(1).max()) < 1e-9
    assert torch.equal(centres_of(heaps[:1], 3), heaps[:1]) and not len(centres_of(heaps[:0], 3))


def test_without_the_empty_prompt_it_says_so() -> None:
    case = make_case(16, 1, "last")
    with pytest.raises(EditkitError, match="empty prompt"):
        plain("speed", "none").solve(case.problem(None))


@forall(cases())
def test_dp_is_its_formula_for_one_row_layer_by_layer(case: Case) -> None:
    words = few_words(case)
    case = replace(case, C=case.C[:1], T=case.T[:1])
    solution = plain("dp", "null", null_threshold=0.0, strength=0.0).solve(replace(case.problem(words), preserve=None))
    expected = reference.dp(case.weights, case.C, case.T, reference.complement(torch.cat(words.rows)))
    for name, W in case.weights.items():
        mine = solution.maps["*"].weight(W)
        assert float((mine - expected[name]).norm()) < 1e-8 * float(expected[name].norm()), name


@forall(cases())
def test_dp_is_exact_and_of_all_exact_edits_the_cheapest(case: Case) -> None:
    penalty = Penalty.of(0.1, case.P, case.d)
    edit = interpolated(case.C, case.T, penalty, exact=0.0)
    assert torch.allclose(edit.embeddings(case.C), case.T, atol=1e-7)
    change, B = edit.dense() - eye(case.d), penalty.matrix()
    others = torch.linalg.svd(case.C).Vh[len(case.C) :]  # what may be added without a word of it in C
    other = change + randn(8, case.d, len(others)) @ others
    assert float((change @ B @ change.T).trace()) < float((other @ B @ other.T).trace())


@forall(cases())
def test_dp_is_the_ridge_regression_of_a_growing_weight(case: Case) -> None:
    exact = plain("dp", "prior").solve(case.problem(case.protected)).maps["*"].dense()
    apart = []
    for weight in (1e2, 1e4, 1e6):
        soft = plain("uce", "prior", erase_scale=weight).solve(case.problem(case.protected)).maps["*"].dense()
        apart.append(float((soft - exact).norm() / (exact - eye(case.d)).norm()))
    assert apart[2] < 1e-2 and apart == sorted(apart, reverse=True)


@pytest.mark.parametrize("layers", ["all", "v"])
def test_on_the_bundled_model_values_alone_can_be_edited(layers: str) -> None:
    model = editkit.open_model("emoji")
    edit = editkit.erase(model, ["church"], options=editkit.Options("speed", layers=layers))
    edited = edit.weights(model.projections)
    keys, values = (
        [not torch.equal(edited.get(name, W), W) for name, W in model.projections.items() if f"to_{letter}" in name]
        for letter in "kv"
    )
    assert all(values) and len(keys) == len(values)
    assert all(keys) if layers == "all" else not any(keys)
    (nothing,) = model.encoder.encode([""])
    changed = next(iter(edit.maps.values())).embeddings(nothing[:1])
    assert float((changed - nothing[:1]).norm() / nothing[:1].norm()) < 1e-6
    assert edit.record["figures"]["erasure_residual"] < 0.6


def test_a_model_without_values_of_the_prompt_is_told(tmp_path: Path) -> None:
    tiny_sd3 = tiny_pipelines.save("sd3", tmp_path / "sd3")
    with pytest.raises(EditkitError, match=r"--layers v: .*no projections to values.*--layers all"):
        editkit.erase(tiny_sd3, ["church"], options=editkit.Options("uce", layers="v"))


@pytest.mark.parametrize(
    ("tokens", "mine", "theirs"),
    [
        ("eot", [3], [7]), ("ends", [2, 3], [6, 7]),
        ("around", [0, 1, *range(3, 20)], [0, 1, *range(7, 24)]),
    ],
)  # fmt: skip
def test_the_end_token_and_what_stands_around_are_found_in_real_prompts(
    tokens: Tokens, mine: list[int], theirs: list[int]
) -> None:
    encoder = editkit.open_model("emoji").encoder
    concept, guide = encoder.encode(["a church", "a garbage truck"])
    assert (encoder.length, encoder.tokens("a church")[3]) == (24, encoder.tokens("a garbage truck")[7])
    rows = concept_rows([encoder], "church", "garbage truck", ["a {}"], tokens)
    assert torch.equal(rows.source, concept[mine]) and torch.equal(rows.target, guide[theirs])
