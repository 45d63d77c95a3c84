"""Styles: erased in their own sentences, into another style, while the others stay; things are erased as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

import editkit
from editkit.concepts.profile import DEFAULT, Profile
from editkit.concepts.templates import fill
from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.emoji.catalogue import STYLED, catalogue
from editkit.emoji.profile import PROFILE
from editkit.erasure.rows import Rows, concept_rows, vocabulary_rows
from editkit.erasure.styles import other_styles, protected_rows, sentences_without
from editkit.evaluation.suites.suite import load_suite
from editkit.model.editable import EditableModel, open_model

UNSEEN = ("elephant", "bus", "pizza", "guitar", "robot")
"""Things that no sentence about styles names."""


def moved(model: EditableModel, edit: Edit, rows: Rows) -> float:
    """How far the edit leaves `rows` from their targets, in shares of the way there: 1 is where they were."""
    stream = model.streams[0]
    M = model.map_of(edit, stream)
    assert M is not None
    C, targets = rows.source.double(), rows.target.double()

    def size(change: torch.Tensor) -> float:
        return float(((change @ stream.gram.double()) * change).sum())

    return size(M.embeddings(C) - targets) / size(C - targets)


def unseen(model: EditableModel, style: str, other: str) -> Rows:
    """Sentences of things that were not erased with the style."""
    sentences = [fill("a {} in the style of ", thing) + "{}" for thing in UNSEEN]
    return concept_rows(model.streams[0].encoders, style, other, sentences, "tail")


@pytest.mark.parametrize("style", catalogue().styles)
def test_a_style_goes_from_things_that_were_not_named_and_other_styles_stay(style: str) -> None:
    model = open_model("emoji")
    edit = editkit.erase(model, [style], options=Options("uce"))
    (guide,) = edit.record["guides"]
    assert guide in other_styles(PROFILE, [style])
    assert moved(model, edit, unseen(model, style, guide)) < 0.25
    for other in other_styles(PROFILE, [style]):
        stays = unseen(model, other, style)  # targets are only the scale: where it is erased to
        assert moved(model, edit, Rows(stays.source, stays.target)) > 0.75
    as_a_thing = open_model("emoji", profile=replace(PROFILE, styles=()))
    before = editkit.erase(as_a_thing, [style], options=Options("uce"))
    assert before.record["guides"] == ["average"]
    assert moved(model, before, unseen(model, style, guide)) > 0.4, "what it was before styles were known"


def test_a_thing_is_erased_as_if_there_were_no_styles() -> None:
    with_styles, without = open_model("emoji"), open_model("emoji", profile=replace(PROFILE, styles=()))
    made, again = (editkit.erase(model, ["church"], options=Options("uce")) for model in (with_styles, without))
    assert made.record["guides"] == again.record["guides"] == ["average"]
    assert torch.equal(made.map.U, again.map.U) and torch.equal(made.map.V, again.map.V)


def test_the_guide_is_the_users_where_one_is_given_and_else_no_style_that_goes() -> None:
    model = open_model("emoji")

    def guides(concepts: list[str], guides: Sequence[str] = (), protect: str = "minimax") -> list[str]:
        options = Options("uce", protect=protect)
        made = editkit.erase(model, concepts, guides, options=options, vocabulary=[*catalogue().styles, "dog", "bus"])
        return made.record["guides"]

    assert guides(["noto"], ["twemoji"]) == ["twemoji"]
    assert guides(["noto", "Fluent", "church"]) == ["twemoji", "twemoji", "average"]
    assert guides(["noto"], ["nearest"]) == ["twemoji"]
    assert guides(["noto"], ["in-class"])[0] in ("twemoji", "fluent")
    assert guides(list(catalogue().styles)) == ["average"] * 3, "no style is left to become"
    assert guides(["noto"], protect="none") == [" "]


def test_no_protected_sentence_names_what_is_erased() -> None:
    encoders = open_model("emoji").streams[0].encoders
    word = next(each for each in catalogue().objects if any("noto" in said for said in PROFILE.sentences_for(each)))
    made = protected_rows(PROFILE, encoders, [word], ["noto"])
    sentences = [each.replace("noto", "twemoji") for each in PROFILE.sentences_for(word)]
    (expected,) = vocabulary_rows(encoders, [word], sentences).rows
    (fluent,) = vocabulary_rows(encoders, ["fluent"], PROFILE.style_templates).rows
    assert made.words == (word, "twemoji", "fluent")
    assert torch.allclose(made.rows[0], expected, atol=1e-5) and torch.allclose(made.rows[2], fluent, atol=1e-5)
    assert sentences_without(["a {} on a blue background", "{}"], ["blue"]) == ["{}"]
    assert sentences_without(["a {} by the lakeside"], ["lake"]) == ["a {} by the lakeside"]


def test_a_profile_without_styles_says_what_it_said() -> None:
    """Records of edits made before there were styles still name the same profile."""
    assert replace(DEFAULT, style_templates=("{}",)).sha256 == DEFAULT.sha256 == Profile().sha256
    assert replace(DEFAULT, styles=("oil",)).sha256 != DEFAULT.sha256


def test_the_sentences_about_styles_name_no_subject_of_the_suite() -> None:
    assert not {*STYLED} & {*load_suite("emoji-styles").subjects} and {*STYLED} <= {*catalogue().objects}
    assert not {*UNSEEN} & {*STYLED}
