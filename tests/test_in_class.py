"""The guide `in-class`: the words that cost others least, of those near the concepts, and no synonyms."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import editkit
from editkit.edits.method import Options, Tokens
from editkit.edits.problem import Problem
from editkit.erasure.in_class import InClass
from editkit.erasure.rows import concept_rows, vocabulary_rows
from editkit.erasure.words import words_to_protect

WORDS = ["church", "chapel", "house", "taxi", "castle", "banana", "fire engine"]


def damage(in_class: InClass, pairs: dict[str, str], tokens: Tokens) -> float:
    """Mean damage of the edit that sends each concept to its guide, solved as every edit is."""
    model, options = in_class.model, Options("uce", protect="prior", tokens=tokens)
    stream, profile = model.streams[0], model.profile
    protected = vocabulary_rows(stream.encoders, in_class.words, profile.sentences_for)
    rows = tuple(concept_rows(stream.encoders, *pair, profile.templates, tokens) for pair in pairs.items())
    problem = Problem(rows, None, stream.inputs, stream.gram, protected)
    return float(protected.damage(options.solve(problem).maps["*"], stream.gram).mean())


def chooser(concepts: list[str], words: list[str], tokens: Tokens = "ends") -> InClass:
    model = editkit.open_model("emoji")
    kept = words_to_protect(model, concepts, [], words)
    return InClass(model, kept, model.profile.templates, Options("uce", protect="prior", tokens=tokens))


@pytest.mark.parametrize("tokens", ["tail", "ends"])
def test_it_is_the_word_with_the_least_damage(tokens: Tokens) -> None:
    words = [word for word in WORDS if word != "fire engine"] if tokens == "tail" else WORDS  # rows of equal number
    in_class = chooser(["church"], words, tokens)
    assert "chapel" not in in_class.words and "church" not in in_class.words
    damages = {word: damage(in_class, {"church": word}, tokens) for word in in_class.words}
    assert in_class.choose(["church"]) == [min(damages, key=lambda word: damages[word])]


def test_together_they_are_chosen_for_each_other() -> None:
    """No other word for any one of them does better while the others keep theirs; among all pairs they rank high."""
    concepts = ["church", "banana", "dog"]
    in_class = chooser(concepts, [*WORDS, "lemon", "cat", "taxi", "pear"])
    chosen = in_class.choose(concepts)
    least = damage(in_class, dict(zip(concepts, chosen, strict=True)), "ends")
    others = []
    for i, word in product(range(3), in_class.words):
        other = [*chosen[:i], word, *chosen[i + 1 :]]
        others.append(damage(in_class, dict(zip(concepts, other, strict=True)), "ends"))
    assert least == pytest.approx(min(others), rel=1e-9) and max(others) > 1.1 * least


def test_many_are_chosen_otherwise_than_each_alone() -> None:
    model = editkit.open_model("emoji")
    concepts = model.own_words()[:12]
    in_class = chooser(concepts, model.own_words())
    together, alone = in_class.choose(concepts), [in_class.choose([concept])[0] for concept in concepts]
    assert together != alone
    dealt = [damage(in_class, dict(zip(concepts, some, strict=True)), "ends") for some in (together, alone)]
    assert dealt[0] < dealt[1]


def test_the_record_names_the_word_and_the_edit_is_that_of_the_word() -> None:
    options = Options("uce", protect="prior")
    edit = editkit.erase("emoji", ["church"], ["in-class"], options=options, vocabulary=WORDS)
    (guide,) = edit.record["guides"]
    assert guide in WORDS and guide not in ("church", "chapel")
    rest = [word for word in WORDS if word != guide]
    average = editkit.erase("emoji", ["church"], options=options, vocabulary=rest)
    assert not torch.allclose(edit.map.dense(), average.map.dense(), atol=1e-3)


def test_a_guide_that_is_nearly_a_named_one_is_told_of() -> None:
    with pytest.warns(UserWarning, match="guide 'in-clas' is taken as a text; did you mean in-class"):
        editkit.erase("emoji", ["church"], ["in-clas"], options=Options("uce", protect="prior"), vocabulary=WORDS)
