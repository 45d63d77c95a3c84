"""The guide `in-class`: the word that costs others least, of those near the concept, and no synonym."""

from __future__ import annotations

import pytest
import torch

import editkit
from editkit.edits.method import Options
from editkit.edits.problem import Problem
from editkit.erasure.in_class import InClass
from editkit.erasure.rows import concept_rows, vocabulary_rows
from editkit.erasure.words import words_to_protect

WORDS = ["church", "chapel", "house", "taxi", "castle", "banana", "fire engine"]


def test_it_is_the_word_with_the_least_damage() -> None:
    model, options = editkit.open_model("emoji"), Options("uce", protect="prior")
    words = words_to_protect(model, ["church"], [], WORDS)
    assert "chapel" not in words and "church" not in words
    stream, templates = model.streams[0], model.profile.templates
    protected = vocabulary_rows(stream.encoders, words, model.profile.vocabulary_templates)
    damages = {}
    for word in words:
        rows = concept_rows(stream.encoders, "church", word, templates, "tail")
        problem = Problem((rows,), None, stream.inputs, stream.gram, protected)
        damages[word] = float(protected.damage(options.solve(problem).maps["*"], stream.gram).mean())
    in_class = InClass(model, words, templates, options)
    assert in_class.word("church") == min(damages, key=lambda word: damages[word])
    assert {word: in_class.damage("church", word) for word in words} == pytest.approx(damages, rel=1e-6)


def test_the_record_names_the_word_and_the_edit_is_that_of_the_word() -> None:
    options = Options("uce", protect="prior")
    edit = editkit.erase("emoji", ["church"], ["in-class"], options=options, vocabulary=WORDS)
    (guide,) = edit.record["guides"]
    assert guide in WORDS and guide not in ("church", "chapel")
    rest = [word for word in WORDS if word != guide]
    average = editkit.erase("emoji", ["church"], options=options, vocabulary=rest)
    assert not torch.allclose(edit.map.dense(), average.map.dense(), atol=1e-3)
