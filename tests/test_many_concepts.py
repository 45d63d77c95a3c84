"""Many concepts at once: what is batched, summed and shared gives what one concept after another gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editkit.concepts.vocabulary import SameWords, common_words, same_word
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import norm, second_moment
from editkit.edits.method import Options
from editkit.edits.moments import Moments
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords
from editkit.embeddings.rows import Tokens
from editkit.erasure.concept_rows import TOGETHER, ConceptRows
from editkit.erasure.erase import erase
from editkit.erasure.near import likeness, nearest_words
from editkit.erasure.rows import concept_rows
from editkit.model.editable import open_model

D = 6


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs_with_a_shared_target() -> list[tuple[Tensor, Tensor]]:
    """Three concepts of one target, one of its own, and one whose target has the same values and is another tensor."""
    shared = randn(0, 4, D)
    own = [(randn(4, 7, D), randn(5, 7, D)), (randn(6, 4, D), shared.clone())]
    return [*((randn(n, 4, D), shared) for n in (1, 2, 3)), *own]


@pytest.mark.parametrize("at_once", [1, 5, 8192])
def test_moments_are_the_sums_over_all_rows(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editkit.edits.moments.AT_ONCE", at_once)
    pairs = pairs_with_a_shared_target()
    moments = Moments.of(pairs, D)
    C, T = (torch.cat(side) for side in zip(*pairs, strict=True))
    for sums, expected in ((moments.sources, C.T @ C), (moments.crossed, T.T @ C), (moments.targets, T.T @ T)):
        torch.testing.assert_close(sums, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.rows.T @ moments.rows, C.T @ C, rtol=1e-10, atol=1e-10)


def test_what_is_left_is_that_of_the_rows_or_unknown() -> None:
    pairs = pairs_with_a_shared_target()
    C, T = (torch.cat(side) for side in zip(*pairs, strict=True))
    M, gram = randn(7, D, D), second_moment(randn(8, 9, D))
    assert Moments.of(pairs, D).left(M, gram) == pytest.approx(norm(C @ M.T - T, gram), rel=1e-9)
    reached = [(C, C @ M.T) for C, _ in pairs]
    assert Moments.of(reached, D).left(M, gram) is None


@given(st.integers(1, 400), st.integers(1, 5))
def test_a_second_moment_is_symmetric_to_the_bit(width: int, count: int) -> None:
    rows = randn(width, count, width)
    moment = second_moment(rows)
    assert torch.equal(moment, moment.T)
    torch.testing.assert_close(moment, rows.T @ rows, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["uce", "rece", "time"])
def test_more_rows_than_dimensions_are_solved_as_the_plain_formula(method: str) -> None:
    rows = tuple(Rows(source, target) for source, target in pairs_with_a_shared_target())
    weights = {"w": randn(9, 8, D)}
    problem = Problem(rows, None, weights, second_moment(weights["w"]), None)
    assert problem.is_tall
    given = {} if method != "rece" else {"epochs": 0}
    solution = Options(method, protect="none", lamb=0.3, **given).solve(problem)
    C, T = (torch.cat(side) for side in zip(*((each.source, each.target) for each in rows), strict=True))
    B = 0.3 * torch.eye(D, dtype=torch.float64) + C.T @ C
    expected = torch.eye(D, dtype=torch.float64) + (T - C).T @ C @ torch.linalg.inv(B)
    torch.testing.assert_close(solution.maps["*"].dense(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(solution.B, B, rtol=1e-9, atol=1e-9)
    largest = torch.linalg.svdvals(rows[3].source)[0] ** 2 / 0.3
    assert solution.leverage[3] == pytest.approx(float(largest), rel=1e-9)


TEXTS = st.lists(st.sampled_from(["box", "Boxes", "boxe", "hot dog", "hot dogs", "HOT  dog", "dog", "cookies", "cooky",
                                  "glass", "", "bus stop"]), max_size=8)  # fmt: skip


@given(TEXTS, st.sampled_from(["boxes", "hot dog", "dogs", "cookie", "glass", "bus stops", ""]))
def test_same_words_finds_what_comparing_with_each_finds(concepts: list[str], word: str) -> None:
    expected = list(dict.fromkeys(other for other in concepts if same_word(word, other)))
    assert sorted(SameWords(concepts).of(word)) == sorted(expected)


@pytest.mark.parametrize("tokens", ["tail", "last", "all", "around"])
@pytest.mark.parametrize("guide", [" ", "several", "each"])
def test_rows_of_many_concepts_are_those_of_each(tokens: Tokens, guide: str) -> None:
    encoder = open_model("emoji").encoder
    concepts = ["church", "garbage truck", "bow and arrow", *common_words()[:TOGETHER]]
    guides = {" ": " ", "several": ("dog", "kitchen knife", "tree")}
    pairs = [(word, guides.get(guide, f"{word} tree")) for word in concepts]
    made = ConceptRows([encoder], ("{}", "a {}"), tokens)
    for (word, becomes), rows in zip(pairs, made.some(pairs), strict=True):
        alone = concept_rows([encoder], word, becomes, ("{}", "a {}"), tokens)
        torch.testing.assert_close(rows.source.double(), alone.source, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(rows.target.double(), alone.target, rtol=1e-4, atol=1e-4)


def test_concepts_of_one_shape_share_their_target() -> None:
    encoder = open_model("emoji").encoder
    made = ConceptRows([encoder], ("{}", "a {}"), "tail").some(
        [("church", ("dog", "tree")), ("mosque", ("dog", "tree"))]
    )
    assert made[0].target is made[1].target


def test_the_nearest_word_of_many_is_that_of_each() -> None:
    model = open_model("emoji")
    words, concepts = model.own_words()[:80], ["church", "dog", "trumpet"]
    together = nearest_words(model.encoder, concepts, words, model.gram)
    assert together == [nearest_words(model.encoder, [word], words, model.gram)[0] for word in concepts]


def test_a_large_vocabulary_is_scored_in_parts_to_six_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ProtectedWords(tuple("abcde"), tuple(randn(n, n + 1, D).float() for n in range(5)))
    gram, edit = second_moment(randn(8, 9, D)), EditMap(randn(1, D, 2), randn(2, 2, D))
    change = edit.dense() - torch.eye(D, dtype=torch.float64)
    rows = [rows.double() for rows in words.rows]
    naive = [float(((r @ change.T @ gram) * (r @ change.T)).sum() / ((r @ gram) * r).sum()) for r in rows]
    assert words.damage(edit, gram).tolist() == pytest.approx(naive, rel=1e-12)
    monkeypatch.setattr("editkit.edits.protect.AT_ONCE", 4)
    assert words.damage(edit, gram).tolist() == pytest.approx(naive, rel=1e-12)
    assert words.damage(edit, 2 * gram).tolist() == pytest.approx(naive, rel=1e-12)  # nothing of the last gram is left
    monkeypatch.setattr("editkit.edits.protect.LARGE", 4)
    again = ProtectedWords(words.words, words.rows).damage(edit, gram)
    assert again.tolist() == pytest.approx(naive, rel=1e-5) and again.tolist() != pytest.approx(naive, rel=1e-12)


def test_the_likeness_of_a_large_vocabulary_is_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model("emoji")
    whole = likeness(model.encoder, model.own_words(), ["church", "dog"], model.gram)
    monkeypatch.setattr("editkit.erasure.near.AT_ONCE", 7)
    torch.testing.assert_close(likeness(model.encoder, model.own_words(), ["church", "dog"], model.gram), whole)


@pytest.mark.slow
def test_many_objects_are_erased_at_once() -> None:
    model = open_model("emoji")
    concepts = model.own_words()[::3]
    figures = erase(model, concepts, options=Options("uce", protect="none"), checked=False).record["figures"]
    assert len(figures["each_concept"]) == len(concepts) and figures["erasure_residual"] < 1
