"""Sentences by turns: what no word is protected with, an edit changes behind every word."""

from __future__ import annotations

from dataclasses import replace

import editkit
from editkit.concepts.profile import Profile
from editkit.edits.method import Options
from editkit.emoji.catalogue import catalogue, with_article
from editkit.emoji.profile import PROFILE
from editkit.emoji.suite_table import ALIKE
from editkit.erasure.rows import vocabulary_rows
from editkit.evaluation.suites.suite import load_suite
from editkit.model.editable import open_model

KEPT = ("dog", "fish", "baseball", "castle", "guitar", "umbrella")


def damages(profile: Profile) -> dict[str, float]:
    """Sentence → mean damage of kept words in it, after the objects of a split were erased."""
    model = open_model("emoji", profile=profile)
    edit = editkit.erase(model, load_suite("emoji-objects").splits["1"], options=Options("uce"))
    stream = model.streams[0]
    M = model.map_of(edit, stream)
    assert M is not None
    colours = [f"a {{}} on {with_article(colour)} background" for colour in catalogue().backgrounds]
    return {
        sentence: float(vocabulary_rows(stream.encoders, KEPT, [sentence]).damage(M, stream.gram).mean())
        for sentence in ("a {}", *colours)
    }


def test_words_stay_on_every_background_not_only_on_one() -> None:
    by_turns, alike = damages(PROFILE), damages(replace(PROFILE, **ALIKE))
    assert max(by_turns.values()) < 2 * by_turns["a {}"]
    assert max(alike.values()) > 3 * alike["a {}"], "what turns are for"
    assert by_turns["a {}"] < 1.2 * alike["a {}"]


def test_a_words_turn_is_its_own_and_every_sentence_has_some() -> None:
    words = catalogue().objects
    told = {word: PROFILE.sentences_for(word) for word in words}
    assert all(len(sentences) == 4 and sentences[:2] == ("{}", "a {}") for sentences in told.values())
    for place, group in enumerate(PROFILE.vocabulary_turns, 2):
        counts = [sum(sentences[place] == sentence for sentences in told.values()) for sentence in group]
        assert sum(counts) == len(words) and min(counts) > len(words) / len(group) / 2
    assert Profile(vocabulary_templates=("a {}",)).sentences_for("dog") == ("a {}",)
