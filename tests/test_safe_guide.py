"""The guide `safe`: the nearest that sums of other words' rows come to a concept's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st

import editkit
from editkit.edits.method import Options
from editkit.edits.problem import Problem
from editkit.erasure.rows import SAFE_WORDS, Span, concept_rows, projected, safe_words, vocabulary_rows
from editkit.erasure.words import words_to_protect
from tests.cases import forall, randn

WORDS = ["house", "taxi", "castle", "banana", "fire engine"]


@forall(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_it_is_the_nearest_point_of_the_span(k: int, d: int, seed: int) -> None:
    rows, spanning = randn(seed, 3, d), randn(seed + 1, k, 3, d)
    made = projected(rows, spanning)
    for row, near, S in zip(rows, made, spanning.transpose(0, 1), strict=True):
        expected = S.T @ torch.linalg.lstsq(S.T, row[:, None], driver="gelsd").solution
        assert torch.allclose(near, expected[:, 0], atol=1e-8)
        assert torch.allclose(S @ (row - near), torch.zeros(k, dtype=torch.float64), atol=1e-8)


def test_a_word_that_is_said_twice_adds_nothing() -> None:
    rows, spanning = randn(0, 2, 8), randn(1, 3, 2, 8)
    assert torch.allclose(projected(rows, torch.cat([spanning, spanning[:1]])), projected(rows, spanning), atol=1e-9)


def test_each_row_is_projected_on_the_rows_of_its_own_position() -> None:
    model = editkit.open_model("emoji")
    encoders, templates = model.streams[0].encoders, ("a {}", "a photo of a {}")
    made = concept_rows(encoders, "church", Span(WORDS), templates, "last")
    apart = torch.stack([concept_rows(encoders, "church", word, templates, "last").target for word in WORDS])
    assert torch.allclose(made.target, projected(made.source.double(), apart.double()), atol=1e-6)


def test_the_words_are_spread_and_no_synonyms_and_the_record_says_safe() -> None:
    model = editkit.open_model("emoji")
    words = words_to_protect(model, ["church"], ["safe"], None)
    chosen = safe_words(words)
    assert len(chosen) == SAFE_WORDS and {*chosen} <= {*words} and not {*chosen} & {"church", "chapel"}
    options = Options("uce", protect="prior")
    edit = editkit.erase(model, ["church"], ["safe"], options=options, synonyms="leave")
    assert edit.record["guides"] == ["safe"]
    rows = concept_rows(model.streams[0].encoders, "church", chosen, model.profile.templates, "tail")
    protected = vocabulary_rows(model.streams[0].encoders, words, model.profile.sentences_for)
    problem = Problem((rows,), None, model.streams[0].inputs, model.gram, protected)
    assert torch.allclose(edit.map.dense(), options.solve(problem).maps["*"].dense(), atol=1e-6)


def test_more_words_than_dimensions_leave_the_concept_as_it_is() -> None:
    rows = randn(0, 2, 8)
    assert torch.allclose(projected(rows, randn(1, 9, 2, 8)), rows, atol=1e-8)


def test_without_words_it_is_refused() -> None:
    with pytest.raises(editkit.EditkitError, match="guide 'safe' needs a vocabulary"):
        editkit.erase("emoji", ["church"], ["safe"], options=Options("uce", protect="none"), vocabulary=["church"])
