"""The shared map against the papers: every weight of every layer, in float64; and the rows each method is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from editkit.edits.edit import Edit
from editkit.edits.gram import gram_matrix
from editkit.edits.problem import Problem, Rows, Solution
from editkit.edits.protect import ProtectedWords
from editkit.edits.rece import derive, rece
from editkit.edits.solve import Penalty, solve
from editkit.edits.time import align
from editkit.edits.uce import uce_tensor
from editkit.embeddings.rows import Place, Tokens, last_subject_token, paired_rows
from tests import reference
from tests.cases import plain

TOLERANCE = 1e-8
LENGTH = 20
POSITIONS = {"last": slice(3, 4), "tail": slice(3, LENGTH), "all": slice(0, LENGTH)}


@dataclass(frozen=True)
class Case:
    """Projections of several shapes, concepts with their guide, and prompts to preserve."""

    weights: dict[str, Tensor]
    pairs: list[tuple[Tensor, Tensor]]
    preserve: Tensor

    @property
    def gram(self) -> Tensor:
        return gram_matrix(self.weights.values(), self.preserve.shape[1])

    def problem(self, preserve: Tensor | None, protected: ProtectedWords | None = None) -> Problem:
        rows = tuple(Rows(source, target) for source, target in self.pairs)
        return Problem(rows, preserve, self.weights, self.gram, protected)


def make_case(d: int, concepts: int, tokens: str, outs: tuple[int, ...] = (8, 24, 40, 96)) -> Case:
    prompts = [rows[POSITIONS[tokens]] for rows in reference.correlated_rows(2 * concepts + 2, LENGTH, d, seed=d)]
    pairs = list(zip(prompts[:concepts], prompts[concepts : 2 * concepts], strict=True))
    return Case(reference.random_weights(outs, d, seed=concepts), pairs, torch.cat(prompts[2 * concepts :]))


def assert_same_weights(solved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(solved) == set(expected)
    for name, W in expected.items():
        difference = solved[name] - W
        assert float(difference.norm() / W.norm()) < TOLERANCE, name
        assert float(difference.abs().max() / W.abs().max()) < TOLERANCE, name


def weights_of(solution: Solution, case: Case) -> dict[str, Tensor]:
    return Edit(solution.maps).weights(case.weights)


@pytest.mark.parametrize("d", [16, 64])
@pytest.mark.parametrize("tokens", ["last", "tail", "all"])
@pytest.mark.parametrize("concepts", [1, 4])
@pytest.mark.parametrize("technique", ["replace", "tensor"])
@pytest.mark.parametrize(("lamb", "erase", "preserve"), [(0.5, 1.0, 1.0), (0.1, 2.0, 0.1), (0.1, 0.3, None)])
def test_uce_is_the_papers(
    d: int, tokens: str, concepts: int, technique: str, lamb: float, erase: float, preserve: float | None
) -> None:
    case = make_case(d, concepts, tokens)
    P, scale = (None, 1.0) if preserve is None else (case.preserve, preserve)
    options = plain(
        "uce",
        "none",
        lamb=lamb,
        erase_scale=erase,
        preserve_scale=scale,
        technique=technique,  # pyright: ignore[reportArgumentType]
    )
    expected = reference.uce(case.weights, case.pairs, P, lamb, erase, scale, tensor=technique == "tensor")
    assert_same_weights(weights_of(options.solve(case.problem(P)), case), expected)


@pytest.mark.parametrize("d", [16, 64])
@pytest.mark.parametrize("lamb", [0.1, 10.0])
def test_time_is_the_papers(d: int, lamb: float) -> None:
    case = make_case(d, 1, "all")
    source, destination = case.pairs[0]
    expected = reference.time(case.weights, source, destination, lamb)
    solution = plain("time", "none", lamb=lamb).solve(case.problem(None))
    assert_same_weights(weights_of(solution, case), expected)


@pytest.mark.parametrize("d", [16, 64])
@pytest.mark.parametrize("tokens", ["last", "all"])
@pytest.mark.parametrize("concepts", [1, 3])
@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("reg", [0.1, 1e-3])
def test_rece_is_algorithm_1(d: int, tokens: str, concepts: int, epochs: int, reg: float) -> None:
    case = make_case(d, concepts, tokens)
    options = plain("rece", "none", lamb=0.1, preserve_scale=0.1, reg=reg, epochs=epochs)
    expected = reference.rece(case.weights, case.pairs, case.preserve, 0.1, reg, epochs, preserve=0.1)
    solution = options.solve(case.problem(case.preserve))
    assert_same_weights(weights_of(solution, case), expected)


@pytest.mark.parametrize("outs", [(70,), (1, 80), (3, 5, 7, 64)])
def test_rece_does_not_depend_on_the_shapes_of_the_layers(outs: tuple[int, ...]) -> None:
    case = make_case(64, 2, "tail", outs)
    solution = plain("rece", "none", lamb=0.1, epochs=2).solve(case.problem(None))
    assert_same_weights(weights_of(solution, case), reference.rece(case.weights, case.pairs, None, 0.1, 0.1, 2))


@pytest.mark.parametrize("epochs", [0, 1, 2])
@pytest.mark.parametrize("joint", [False, True])
def test_a_protected_vocabulary_enters_as_means(epochs: int, joint: bool) -> None:
    case = make_case(16, 2, "tail")
    words = reference.correlated_rows(6, 5, 16, seed=99)
    words[2] = words[2][:3]  # words may have different numbers of rows
    protected = ProtectedWords(tuple("abcdef"), tuple(words))
    options = plain("rece", "prior", lamb=1e-2, epochs=epochs, strength=0.3, preserve_scale=0.5, joint=joint)
    scaled = [case.preserve * (0.5 / len(case.preserve)) ** 0.5]
    scaled += [rows * (0.3 / (6 * len(rows))) ** 0.5 for rows in words]
    erase = 1 / sum(len(source) for source, _ in case.pairs)
    expected = reference.rece(case.weights, case.pairs, torch.cat(scaled), 1e-2, 0.1, epochs, erase=erase, joint=joint)
    solution = options.solve(case.problem(case.preserve, protected))
    assert_same_weights(weights_of(solution, case), expected)


def test_the_functions_are_what_the_methods_solve() -> None:
    case = make_case(16, 2, "tail")
    penalty = Penalty.of(0.1, case.preserve, 16, 0.7)
    C, targets = (torch.cat(side) for side in zip(*case.pairs, strict=True))
    maps = uce_tensor(case.pairs, penalty, {name: W.T @ W for name, W in case.weights.items()}, 1.3)
    assert_same_weights(
        {name: maps[name].weight(W) for name, W in case.weights.items()},
        reference.uce(case.weights, case.pairs, case.preserve, 0.1, 1.3, 0.7, tensor=True),
    )
    again = rece(C, targets, penalty, case.gram, 0.05, 2, 1.3)
    assert_same_weights(
        {name: again.weight(W) for name, W in case.weights.items()},
        reference.rece(case.weights, case.pairs, case.preserve, 0.1, 0.05, 2, 1.3, 0.7),
    )


@pytest.mark.parametrize("reg", [1e-3, 0.1, 1.0])
def test_derive_is_eq_8(reg: float) -> None:
    case = make_case(64, 1, "all")
    C, targets = case.pairs[0]
    edit = solve(C, targets, Penalty.of(0.1, case.preserve, 64))
    new = reference.uce(case.weights, case.pairs, case.preserve, 0.1)
    expected = reference.derived(case.weights, new, C, reg)
    assert float((derive(edit, case.gram, C, reg) - expected).norm() / expected.norm()) < TOLERANCE


def test_b_is_the_papers_second_matrix() -> None:
    case = make_case(16, 2, "all")
    B = 0.1 * torch.eye(16, dtype=torch.float64)
    for source, _ in case.pairs:
        for c in source:
            B = B + 2.0 * torch.outer(c, c)
    for p in case.preserve:
        B = B + 0.5 * torch.outer(p, p)
    options = plain("uce", "none", lamb=0.1, erase_scale=2.0, preserve_scale=0.5)
    torch.testing.assert_close(options.solve(case.problem(case.preserve)).B, B, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_weights_are_rounded_once(dtype: torch.dtype) -> None:
    case = make_case(16, 1, "tail")
    low = {name: W.to(dtype) for name, W in case.weights.items()}
    exact = reference.uce({name: W.double() for name, W in low.items()}, case.pairs, case.preserve, 0.1)
    solution = plain("uce", "none", lamb=0.1).solve(case.problem(case.preserve))
    for name, W in Edit(solution.maps).weights(low).items():
        assert W.dtype == dtype
        torch.testing.assert_close(W, exact[name].to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-9)


def test_float32_rows_are_solved_in_float64() -> None:
    case = make_case(64, 1, "all")
    single = Case(case.weights, [(C.float(), T.float()) for C, T in case.pairs], case.preserve.float())
    solution = plain("rece", "none", lamb=0.1, epochs=2).solve(single.problem(single.preserve))
    widened = [(C.double(), T.double()) for C, T in single.pairs]
    expected = reference.rece(case.weights, widened, single.preserve.double(), 0.1, 0.1, 2)
    assert_same_weights(weights_of(solution, case), expected)


@pytest.mark.parametrize(
    ("source", "destination", "aligned"),
    [
        ([0, 5, 9], [0, 5, 9], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([0, 5, 9], [0, 7, 5, 9], [0, 2, 3, 4, 5, 6, 7, 7]),  # roses → blue roses
        ([0, 5, 6, 9], [0, 5, 7, 9], [0, 1, 2, 3, 4, 5, 6, 7]),  # a token replaced
        ([0, 5, 6, 9], [0, 7, 9], [0, 1, 1, 2, 3, 4, 5, 6]),  # two tokens by one
        ([0, 5, 9], [0, 6, 7, 9], [0, 1, 3, 4, 5, 6, 7, 7]),  # one token by two
        ([0, 7, 5, 9], [0, 5, 9], [0, 1, 1, 2, 3, 4, 5, 6]),  # a token deleted
        (
            [0, 1, 2, 9],
            [0, 1, 5, 1, 2, 9],
            [0, 1, 4, 5, 6, 7, 7, 7],
        ),  # a dog → a photo, a dog: the next one, as TIME does
        ([0, 2, 5, 9], [0, 1, 4, 5, 9], [0, 1, 3, 4, 5, 6, 7, 7]),  # an apple → a red apple
    ],
)
def test_align(source: list[int], destination: list[int], aligned: list[int]) -> None:
    assert align(source, destination, 8) == aligned


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 2), st.booleans()), max_size=8))
@example([(1, False), (1, True), (2, True), (1, False), (2, True), (2, True)])  # the longest match misses a token
def test_a_token_is_aligned_to_its_occurrence(words: list[tuple[int, bool]]) -> None:
    destination = [0, *(word for word, _ in words), 9]
    source = [0, *(word for word, kept in words if kept), 9]
    at = align(source, destination, 12)
    assert len(at) == 12 and at == sorted(at) and at[-1] == 11
    assert [destination[i] for i in at[: len(source)]] == source


@pytest.mark.parametrize(
    ("tokens", "concept", "guide"),
    [
        ("last", [3], [1]), ("tail", [3, 4, 5, 6], [1, 2, 3, 4]), ("all", list(range(7)), list(range(7))),
        ("eot", [5], [2]), ("ends", [3, 5], [1, 2]), ("around", [0, 4, 5, 6], [0, 2, 3, 4]),
    ],
)  # fmt: skip
def test_paired_rows(tokens: Tokens, concept: list[int], guide: list[int]) -> None:
    three_words, one_word = Place(1, 3, 5), Place(1, 1, 2)
    assert paired_rows(tokens, three_words, one_word, 7) == (concept, guide)
    assert paired_rows(tokens, one_word, three_words, 7) == (guide, concept)


def test_a_subject_that_is_the_end_token_is_one_row() -> None:
    """As with the empty prompt, and with a pooled row."""
    empty, word = Place(1, 1, 1), Place(1, 2, 4)
    assert paired_rows("ends", empty, word, 7) == ([1], [4])
    assert paired_rows("ends", word, empty, 7) == ([2, 4], [1, 1])


def test_last_subject_token() -> None:
    assert last_subject_token([0, 5, 6, 9], []) == 2
    assert last_subject_token([0, 5, 6, 7, 9], [7]) == 2
    assert last_subject_token([0, 9], []) == 0
    assert last_subject_token([0, 9], [7]) == 0  # a suffix that merged into another token
