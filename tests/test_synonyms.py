"""Synonyms are erased with a concept, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import editkit
from editkit.edits.gram import norm
from editkit.embeddings.encoder import TextEncoder
from editkit.emoji.catalogue import catalogue
from editkit.emoji.synonym_table import measure
from editkit.erasure.synonyms import synonyms_of
from editkit.errors import EditkitError
from tests.cli import run


def test_every_listed_pair_is_known_from_both_sides() -> None:
    model, pairs = editkit.open_model("emoji"), catalogue().synonyms
    assert len(pairs) == 26
    for concept, synonyms in pairs.items():
        assert synonyms_of(model, [concept]) == {concept: list(synonyms)}
        for synonym in synonyms:
            assert concept in synonyms_of(model, [synonym])[synonym]


def left(edit: editkit.Edit, word: str) -> float:
    """How much of a word's change is missing: 0 is gone to where nothing is left of it, 1 is untouched."""
    model = editkit.open_model("emoji")
    encoder: TextEncoder = model.encoder
    rows = encoder.encode([f"a {word}"])[0]
    return norm(edit.map.embeddings(rows) - rows, model.gram) / norm(rows, model.gram)


def test_hatchet_goes_with_axe_and_stays_where_the_user_says_so() -> None:
    erased, leave = (editkit.erase("emoji", ["axe"], synonyms=how) for how in ("erase", "leave"))
    assert erased.record["synonyms"] == {"axe": ["hatchet"]} and "synonyms" not in leave.record
    assert left(erased, "hatchet") > 1.5 * left(leave, "hatchet")
    assert left(erased, "dog") < 0.35


def test_as_published_nothing_is_erased_along() -> None:
    assert "synonyms" not in editkit.erase("emoji", ["axe"], options=editkit.Options("uce", protect="none")).record


def test_a_word_of_the_users_goes_with_the_nearest_concept(tmp_path: Path) -> None:
    made = editkit.erase("emoji", ["axe", "dog"], synonyms="leave", synonym=["puppy"])
    assert made.record["synonyms"] == {"dog": ["puppy"]}
    said = run("erase", "--concept", "axe", cwd=tmp_path)
    assert "erased with axe: hatchet" in said
    with pytest.raises(EditkitError, match="--synonyms: must be one of erase, leave, but got 'keep'"):
        editkit.erase("emoji", ["axe"], synonyms="keep")
    with pytest.raises(EditkitError, match="'puppy' is to be both erased and preserved"):
        editkit.erase("emoji", ["dog"], preserve=["puppy"], synonym=["puppy"])


def test_leaving_synonyms_is_the_edit_that_erases_the_word_alone() -> None:
    alone = editkit.erase("emoji", ["pizza"])
    leave = editkit.erase("emoji", ["pizza"], synonyms="leave")
    assert torch.equal(alone.map.U, leave.map.U) and torch.equal(alone.map.V, leave.map.V)


def test_an_erased_synonym_is_drawn_and_judged() -> None:
    (row,) = measure(editkit.open_model("emoji"), [("car", "automobile")], seeds=[0])
    assert row == {"word": "car", "synonym": "automobile", "original": "1", "leave": "1", "erase": "0"}
